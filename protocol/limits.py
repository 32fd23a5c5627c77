"""Every limit of the wire in one place. Times are seconds, sizes are bytes."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT_LIMITS", "RECORD_LIMITS", "Limits"]


@dataclass(frozen=True)
class Limits:
    """What one side accepts from the other; the defaults are the protocol's."""

    # --- a request, as the axon accepts it --------------------------------------------------------------------------
    max_request_bytes: int = 32 * 1024
    """Body of a request. Two prompts of 1,024 characters, each escaped as a surrogate pair (12 bytes), take 24 KiB."""
    max_header_bytes: int = 16 * 1024
    """Request line and headers together. A btauth/1 request from aiohttp takes about 600 bytes; proxies add to it."""
    max_header_count: int = 100
    """Header fields of a request. A btauth/1 request from aiohttp has 11."""
    header_seconds: float = 5.0
    """From the connection (or the previous reply's end plus idling) to the end of the headers."""
    body_seconds: float = 5.0
    """From the end of the headers to the end of the body."""
    idle_seconds: int = 75
    """How long an axon keeps an idle connection. Over `reuse_seconds`: a dendrite never writes to a closing one."""
    write_seconds: float = 60.0
    """How long a caller may take to read a finished reply before the connection is dropped with what is unread."""
    max_connections: int = 512
    """Open connections of one axon. A subnet has at most 64 validators. At the limit a connection without a complete
    request gives way to a newcomer, of the address that has the most of them."""
    max_connections_per_address: int = 64
    """Open connections from one IP address: one host cannot take all of them. Validators behind one NAT still fit."""
    address_seconds: float = 0.02
    """Between two requests from one IP address in the long run; 0 sets no limit. What is above it is not even read.
    Fifty a second take 2% of a core to refuse; a validator asks a miner a few times a minute."""
    address_at_once: int = 256
    """Requests from one IP address that need not wait for that: several validators behind one, with all prompts of a
    round at once."""
    caller_seconds: float = 0.1
    """Between two authentic requests of one hotkey in the long run; 0 sets no limit. What is above it is answered with
    "busy" and not looked at."""
    caller_at_once: int = 128
    """Authentic requests of one hotkey that need not wait for that; a round has 64 prompts for a miner at most."""

    # --- the work, as the axon admits it ----------------------------------------------------------------------------
    max_running: int = 4
    """Handler calls at the same time."""
    max_waiting: int = 32
    """Requests that wait for a handler call, highest priority first. Beyond it the lowest is told to come back."""
    max_per_caller: int = 8
    """Running and waiting requests of one hotkey: one validator cannot fill the queue."""
    shutdown_seconds: int = 5
    """How long `Axon.stop` lets running handlers finish before it cancels them."""

    # --- a response, as the dendrite accepts it ---------------------------------------------------------------------
    max_response_header_bytes: int = 16 * 1024
    """All header lines of a response together, and its status line."""
    max_response_header_count: int = 100
    """Header lines of a response. An axon sends four."""
    max_manifest_bytes: int = 16 * 1024
    """The JSON manifest. Sixteen images of about 300 bytes each take 5 KiB."""
    image_bytes_per_pixel: int = 4
    """An image of W x H may take this many bytes a pixel: incompressible 8-bit RGB as PNG takes a little over 3 ..."""
    image_overhead_bytes: int = 64 * 1024
    """... plus this much for headers and metadata."""
    max_record_bytes: int = 2 * 1024 * 1024
    """Body of a record. A round of 64 prompts with 16 images each takes 1.5 MiB at most, 32 usual rounds 100 KiB."""
    max_error_bytes: int = 4 * 1024
    """Body of a response that is not 200."""
    connect_seconds: float = 5.0
    """To open the connection; a host that drops packets is known as unreachable without using up the whole deadline."""
    reuse_seconds: float = 15.0
    """How long the dendrite keeps an idle connection for the next query."""
    max_queries: int = 256
    """Queries in flight. More wait, before their deadline starts to run."""

    def max_image_bytes(self, width: int, height: int) -> int:
        """The most bytes one encoded image of `width` x `height` pixels may take."""
        return width * height * self.image_bytes_per_pixel + self.image_overhead_bytes

    def max_response_bytes(self, width: int, height: int, num_images: int) -> int:
        """The most bytes of a complete response body to a request for `num_images` images of `width` x `height`."""
        return 4 + self.max_manifest_bytes + num_images * self.max_image_bytes(width, height)


DEFAULT_LIMITS = Limits()

RECORD_LIMITS = Limits(
    max_request_bytes=1024,
    idle_seconds=5,
    max_connections=128,
    max_connections_per_address=16,
    address_seconds=0.1,
    address_at_once=64,
    max_running=1,
    max_waiting=16,
    max_per_caller=1,
)
"""What a validator accepts from miners that ask for their records: as little as does, since its rounds come first."""
