"""When to set weights: once before each epoch, with scores as fresh as can be, and never against the rate limit."""

from __future__ import annotations

from collections import deque

from ig_subnet.chain.interface import EpochTiming

SHORTEST_WINDOW = 5  # blocks; an extrinsic is in the chain after one or two
WINDOW_SHARE = 10  # of a tempo: 36 of 360 blocks, 7 minutes, are room for a node that is away for a while

ALARM_TEMPOS = 3  # without success: two may be a node's upgrade or a busy chain, and a validator loses its dividends
TEMPO_SECONDS = 360 * 12.0  # of finney, until the chain has said what it is

REMEMBERED_LOOKS = 16  # at the chain, to learn its pace from: an answer that takes long shows an old block
SHORTEST_WAIT = 0.5  # seconds
LONGEST_WAIT = 60.0  # seconds: the subnet's owner may change tempo and rate limit meanwhile


def window(tempo: int) -> int:
    """The number of blocks before an epoch in which weights are set for it."""
    return min(tempo, max(SHORTEST_WINDOW, tempo // WINDOW_SHARE))


def blocks_until_weights(timing: EpochTiming, epoch_length: int | None) -> int:
    """How many blocks to wait before the next setting of weights; 0 means now.

    Without an `epoch_length` weights are set once in the window before each epoch, and at once when that was missed
    for a whole tempo; with one, every `epoch_length` blocks. The rate limit comes first in either case. Raises
    ValueError for the timing of a validator that is not registered, which has nothing to set.
    """
    since = timing.blocks_since_last_update
    if since is None:
        raise ValueError("no weights are due for a validator that is not registered")
    if epoch_length is not None:
        due = epoch_length - since
    elif since >= timing.tempo:
        due = 0
    else:
        due = timing.blocks_until_next_epoch - window(timing.tempo)
        if due <= 0 and since <= -due:  # they were set in this very window
            due += timing.tempo
    return max(0, due, timing.weights_rate_limit - since)


class BlockPace:
    """How long blocks take on this chain, learnt from what is read of it (12 s on finney, 1 s or less locally)."""

    def __init__(self) -> None:
        self.seconds_per_block = 1.0
        self._seen: deque[tuple[float, int]] = deque(maxlen=REMEMBERED_LOOKS)

    def observe(self, at: float, block: int) -> None:
        """Takes in that `block` was the newest one at the time `at`, in seconds of a clock that only goes forward."""
        if self._seen and block < self._seen[-1][1]:
            self._seen.clear()
        if not self._seen or block > self._seen[-1][1]:
            self._seen.append((at, block))
        (began, first), (ended, last) = self._seen[0], self._seen[-1]
        if ended > began:
            self.seconds_per_block = (ended - began) / (last - first)

    def seconds(self, blocks: int) -> float:
        """How long to sleep before another look, `blocks` ahead of time: half the way, so that no error adds up."""
        return min(LONGEST_WAIT, max(SHORTEST_WAIT, blocks * self.seconds_per_block / 2))


class Lateness:
    """For how many tempos no weights were set: by the chain's blocks up to the last look at it, by the clock since.

    Where an `epoch_length`, the rate limit or the wait for a reveal is longer than a tempo, that takes its place. A
    hotkey that is not registered is late from the start or from the last weights that were seen.
    """

    def __init__(self, at: float, epoch_length: int | None) -> None:
        """`at`: seconds of a clock that only goes forward, as in the other methods."""
        self._epoch_length = epoch_length
        self._began_at = at
        self._seen_at, self._tempos = at, 0.0
        self._tempo_seconds = TEMPO_SECONDS
        self._told = 0

    def observe(self, at: float, timing: EpochTiming, seconds_per_block: float) -> None:
        """Takes in what the chain says."""
        blocks = max(timing.tempo * max(1, timing.reveal_epochs), timing.weights_rate_limit, self._epoch_length or 0)
        since = timing.blocks_since_last_update
        self._tempos = self.tempos(at) if since is None else since / blocks
        self._seen_at, self._tempo_seconds = at, blocks * seconds_per_block

    def succeeded(self, at: float) -> None:
        """Weights have just been set or committed."""
        self._seen_at, self._tempos, self._told = at, 0.0, 0

    def tempos(self, at: float) -> float:
        """How many tempos without success."""
        return self._tempos + (at - self._seen_at) / self._tempo_seconds

    def alarm_is_due(self, at: float) -> bool:
        """Whether to raise an alarm now: once after `ALARM_TEMPOS`, and again for every so many more.

        Who has just started has a tempo to make up for what was before.
        """
        if at - self._began_at < self._tempo_seconds:
            return False
        alarms = int(self.tempos(at) / ALARM_TEMPOS)
        due = alarms > self._told
        self._told = alarms
        return due
