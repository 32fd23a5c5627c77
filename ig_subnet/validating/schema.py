"""The tables of the score store, as the steps that lead from each version of them to the next."""

from __future__ import annotations

SCHEMAS: dict[int, tuple[str, ...]] = {
    1: (
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
        """CREATE TABLE rounds (
            round_id INTEGER PRIMARY KEY, started_at REAL NOT NULL, finished_at REAL NOT NULL, block INTEGER NOT NULL,
            queried INTEGER NOT NULL, answered INTEGER NOT NULL)""",
        """CREATE TABLE prompts (
            round_id INTEGER NOT NULL, position INTEGER NOT NULL, topic TEXT NOT NULL, text TEXT NOT NULL,
            similarity REAL NOT NULL, source TEXT NOT NULL,
            PRIMARY KEY (round_id, position))""",
        """CREATE TABLE answers (
            round_id INTEGER NOT NULL, position INTEGER NOT NULL, hotkey TEXT NOT NULL, uid INTEGER NOT NULL,
            status TEXT NOT NULL, elapsed_seconds REAL NOT NULL, seed INTEGER NOT NULL, incentive REAL NOT NULL,
            detail TEXT NOT NULL,
            PRIMARY KEY (round_id, position, hotkey))""",
        """CREATE TABLE images (
            round_id INTEGER NOT NULL, position INTEGER NOT NULL, hotkey TEXT NOT NULL, number INTEGER NOT NULL,
            sha256 TEXT NOT NULL, format TEXT NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,
            bytes INTEGER NOT NULL, verdict TEXT NOT NULL, total REAL, incentive REAL NOT NULL,
            PRIMARY KEY (round_id, position, hotkey, number))""",
        """CREATE TABLE expert_scores (
            round_id INTEGER NOT NULL, position INTEGER NOT NULL, hotkey TEXT NOT NULL, number INTEGER NOT NULL,
            expert TEXT NOT NULL, score REAL NOT NULL,
            PRIMARY KEY (round_id, position, hotkey, number, expert))""",
        """CREATE TABLE averages (
            round_id INTEGER NOT NULL, hotkey TEXT NOT NULL, uid INTEGER NOT NULL, observation REAL NOT NULL,
            average REAL NOT NULL,
            PRIMARY KEY (round_id, hotkey))""",
        """CREATE TABLE miners (
            hotkey TEXT PRIMARY KEY, uid INTEGER NOT NULL, registered_at INTEGER NOT NULL, accumulator REAL NOT NULL,
            accumulated_weight REAL NOT NULL, observations INTEGER NOT NULL, last_round INTEGER NOT NULL)""",
        """CREATE TABLE weight_settings (
            id INTEGER PRIMARY KEY, at REAL NOT NULL, block INTEGER NOT NULL, outcome TEXT NOT NULL,
            detail TEXT NOT NULL, weights TEXT NOT NULL)""",
    ),
    2: (
        """CREATE TABLE rewarders (
            fingerprint TEXT PRIMARY KEY, dtype TEXT NOT NULL, resize TEXT NOT NULL, identities TEXT NOT NULL)""",
        "ALTER TABLE rounds ADD COLUMN rewarder TEXT",
        "ALTER TABLE images ADD COLUMN disagreement REAL",
        "ALTER TABLE expert_scores ADD COLUMN truncated INTEGER",
    ),
    3: (
        "ALTER TABLE prompts ADD COLUMN prompt_id TEXT",
        "ALTER TABLE prompts ADD COLUMN parents TEXT",
        # Until then every prompt was asked as it stands in the database.
        "UPDATE prompts SET prompt_id = prompt_id(text), parents = '[\"' || prompt_id(text) || '\"]'",
        "CREATE INDEX prompts_by_id ON prompts (prompt_id, round_id, position)",
        """CREATE TABLE commitments (
            id INTEGER PRIMARY KEY, round_id INTEGER NOT NULL, committed_at REAL NOT NULL, block INTEGER NOT NULL,
            digest TEXT NOT NULL, head TEXT NOT NULL, secret TEXT NOT NULL, content TEXT NOT NULL, revealed_at REAL,
            outcome TEXT)""",
        "CREATE UNIQUE INDEX one_is_not_revealed ON commitments (revealed_at IS NULL) WHERE revealed_at IS NULL",
    ),
    4: (
        "ALTER TABLE images ADD COLUMN alignment REAL",
        "ALTER TABLE images ADD COLUMN unsafe REAL",
        "ALTER TABLE images ADD COLUMN trust REAL",
        "ALTER TABLE images ADD COLUMN evidence TEXT",
        "ALTER TABLE images ADD COLUMN model TEXT",
        # Ten times as large as the rest of an image, needed by the gates only, and for a time.
        """CREATE TABLE fingerprints (
            round_id INTEGER NOT NULL, position INTEGER NOT NULL, hotkey TEXT NOT NULL, number INTEGER NOT NULL,
            phash BLOB NOT NULL, embedding BLOB,
            PRIMARY KEY (round_id, position, hotkey, number))""",
        # Without row ids: its key is most of a row, and stood in the table and in its index.
        "ALTER TABLE expert_scores RENAME TO older_scores",
        """CREATE TABLE expert_scores (
            round_id INTEGER NOT NULL, position INTEGER NOT NULL, hotkey TEXT NOT NULL, number INTEGER NOT NULL,
            expert TEXT NOT NULL, score REAL NOT NULL, truncated INTEGER, worst REAL,
            PRIMARY KEY (round_id, position, hotkey, number, expert)) WITHOUT ROWID""",
        "INSERT INTO expert_scores SELECT *, NULL FROM older_scores",
        "DROP TABLE older_scores",
        "ALTER TABLE weight_settings ADD COLUMN basis TEXT",
        "ALTER TABLE miners ADD COLUMN squares REAL NOT NULL DEFAULT 0",
        "ALTER TABLE miners ADD COLUMN observed_at REAL NOT NULL DEFAULT 0",
        "ALTER TABLE miners ADD COLUMN absent_since REAL",
        # Observations in [0, 1] are not below their squares: a miner whose squares nobody added up varies the most.
        "UPDATE miners SET squares = accumulator, observed_at = COALESCE("
        "(SELECT finished_at FROM rounds WHERE rounds.round_id = miners.last_round), 0)",
    ),
}
"""Never changed, only added to: a new store goes through all of them, an old one through those it lacks.

`prompt_id` is `ig_subnet.prompts.database.prompt_id`, which whoever carries out the steps lends to SQLite.
"""

SCHEMA_VERSION = max(SCHEMAS)
