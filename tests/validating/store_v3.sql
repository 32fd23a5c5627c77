BEGIN TRANSACTION;
CREATE TABLE answers (
            round_id INTEGER NOT NULL, position INTEGER NOT NULL, hotkey TEXT NOT NULL, uid INTEGER NOT NULL,
            status TEXT NOT NULL, elapsed_seconds REAL NOT NULL, seed INTEGER NOT NULL, incentive REAL NOT NULL,
            detail TEXT NOT NULL,
            PRIMARY KEY (round_id, position, hotkey));
INSERT INTO "answers" VALUES(1,0,'alice',3,'answered',0.25,4294967295,0.5,'');
INSERT INTO "answers" VALUES(1,0,'bob',4,'timeout',1.0,7,0.0,'no answer in 1 s');
INSERT INTO "answers" VALUES(2,0,'alice',3,'answered',0.25,4294967295,0.5,'');
INSERT INTO "answers" VALUES(2,0,'bob',4,'timeout',1.0,7,0.0,'no answer in 1 s');
CREATE TABLE averages (
            round_id INTEGER NOT NULL, hotkey TEXT NOT NULL, uid INTEGER NOT NULL, observation REAL NOT NULL,
            average REAL NOT NULL,
            PRIMARY KEY (round_id, hotkey));
INSERT INTO "averages" VALUES(1,'alice',3,0.5,0.5);
INSERT INTO "averages" VALUES(1,'bob',4,0.0,0.0);
INSERT INTO "averages" VALUES(2,'alice',3,0.5,0.5);
INSERT INTO "averages" VALUES(2,'bob',4,0.0,0.0);
CREATE TABLE commitments (
            id INTEGER PRIMARY KEY, round_id INTEGER NOT NULL, committed_at REAL NOT NULL, block INTEGER NOT NULL,
            digest TEXT NOT NULL, head TEXT NOT NULL, secret TEXT NOT NULL, content TEXT NOT NULL, revealed_at REAL,
            outcome TEXT);
INSERT INTO "commitments" VALUES(1,1,10.0,101,'16d23dd65ff4a4fcf68d5af641998d6a4713a01fc329ad67045e968839c22c5e','bad748dd0ce535a0d277171e3f100ac1caf1e212677b6cbb18f3ac0e518297d8','0101010101010101010101010101010101010101010101010101010101010101','{"hotkey":"5Faaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","netuid":1,"prompter":{"database":"abababababababababababababababababababababababababababababababab","model":"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"},"prompts":[{"id":"a1e4a280d27cad5b","parents":["a1e4a280d27cad5b"],"row":3,"similarity":0.5,"source":"pocket","text":"a red circle"}],"round":1,"topic":"colours"}',15.0,'void');
INSERT INTO "commitments" VALUES(2,1,20.0,102,'f137649c1595fa8ec52e4421b94ac91b8bff2924dbe15c512e284829c2d49818','569f97a10c70fb9838d4c4910cd4441822bad90a37022aa1a6149124f076581e','0202020202020202020202020202020202020202020202020202020202020202','{"hotkey":"5Faaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","netuid":1,"prompter":{"database":"abababababababababababababababababababababababababababababababab","model":"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"},"prompts":[{"id":"a1e4a280d27cad5b","parents":["a1e4a280d27cad5b"],"row":3,"similarity":0.5,"source":"pocket","text":"a red circle"}],"round":1,"topic":"colours"}',13.0,'asked');
INSERT INTO "commitments" VALUES(3,2,30.0,103,'a3a96b2105858df250a252acad1f4165b0be9ca7f5f79e3f5382781f535d660d','b71639563846598aeaec4b01bb2e90b72f85fa24d8c9180248e0e64f81e1afd6','0303030303030303030303030303030303030303030303030303030303030303','{"hotkey":"5Faaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","netuid":1,"prompter":{"database":"abababababababababababababababababababababababababababababababab","model":"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"},"prompts":[{"id":"a1e4a280d27cad5b","parents":["a1e4a280d27cad5b"],"row":3,"similarity":0.5,"source":"pocket","text":"a red circle"}],"round":2,"topic":"colours"}',23.0,'asked');
INSERT INTO "commitments" VALUES(4,3,40.0,104,'195f1a070d803b223ae8b4e57c42e7313091bade2b2d0c2566809bb8e0100282','2d126af7100e3f4f20cd1a7c584ded3c569daf839f9308904f118139e8132c23','0404040404040404040404040404040404040404040404040404040404040404','{"hotkey":"5Faaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","netuid":1,"prompter":{"database":"abababababababababababababababababababababababababababababababab","model":"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"},"prompts":[{"id":"a1e4a280d27cad5b","parents":["a1e4a280d27cad5b"],"row":3,"similarity":0.5,"source":"pocket","text":"a red circle"}],"round":3,"topic":"colours"}',NULL,NULL);
CREATE TABLE expert_scores (
            round_id INTEGER NOT NULL, position INTEGER NOT NULL, hotkey TEXT NOT NULL, number INTEGER NOT NULL,
            expert TEXT NOT NULL, score REAL NOT NULL, truncated INTEGER,
            PRIMARY KEY (round_id, position, hotkey, number, expert));
INSERT INTO "expert_scores" VALUES(1,0,'alice',0,'clip_aesthetic',5.5,0);
INSERT INTO "expert_scores" VALUES(1,0,'alice',0,'pick_score',-0.25,1);
INSERT INTO "expert_scores" VALUES(2,0,'alice',0,'clip_aesthetic',5.5,0);
INSERT INTO "expert_scores" VALUES(2,0,'alice',0,'pick_score',-0.25,1);
CREATE TABLE images (
            round_id INTEGER NOT NULL, position INTEGER NOT NULL, hotkey TEXT NOT NULL, number INTEGER NOT NULL,
            sha256 TEXT NOT NULL, format TEXT NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,
            bytes INTEGER NOT NULL, verdict TEXT NOT NULL, total REAL, incentive REAL NOT NULL, disagreement REAL,
            PRIMARY KEY (round_id, position, hotkey, number));
INSERT INTO "images" VALUES(1,0,'alice',0,'abababababababababababababababababababababababababababababababab','png',64,64,1234,'valid',-1.5,0.5,0.125);
INSERT INTO "images" VALUES(1,0,'alice',1,'cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd','png',64,64,12,'not a png file',NULL,0.0,NULL);
INSERT INTO "images" VALUES(2,0,'alice',0,'abababababababababababababababababababababababababababababababab','png',64,64,1234,'valid',-1.5,0.5,0.125);
INSERT INTO "images" VALUES(2,0,'alice',1,'cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd','png',64,64,12,'not a png file',NULL,0.0,NULL);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO "meta" VALUES('schema_version','3');
CREATE TABLE miners (
            hotkey TEXT PRIMARY KEY, uid INTEGER NOT NULL, registered_at INTEGER NOT NULL, accumulator REAL NOT NULL,
            accumulated_weight REAL NOT NULL, observations INTEGER NOT NULL, last_round INTEGER NOT NULL);
INSERT INTO "miners" VALUES('alice',3,11,0.5,1.0,2,2);
INSERT INTO "miners" VALUES('bob',4,12,0.0,1.0,2,2);
CREATE TABLE prompts (
            round_id INTEGER NOT NULL, position INTEGER NOT NULL, topic TEXT NOT NULL, text TEXT NOT NULL,
            similarity REAL NOT NULL, source TEXT NOT NULL, prompt_id TEXT, parents TEXT,
            PRIMARY KEY (round_id, position));
INSERT INTO "prompts" VALUES(1,0,'colours','a red circle',0.5,'pocket','a1e4a280d27cad5b','["a1e4a280d27cad5b"]');
INSERT INTO "prompts" VALUES(2,0,'colours','a red circle',0.5,'pocket','a1e4a280d27cad5b','["a1e4a280d27cad5b"]');
CREATE TABLE rewarders (
            fingerprint TEXT PRIMARY KEY, dtype TEXT NOT NULL, resize TEXT NOT NULL, identities TEXT NOT NULL);
INSERT INTO "rewarders" VALUES('56f23dfaabb5fd37','float32','pil','{"clip_aesthetic": "a directory", "pick_score": "a hub id at abc"}');
CREATE TABLE rounds (
            round_id INTEGER PRIMARY KEY, started_at REAL NOT NULL, finished_at REAL NOT NULL, block INTEGER NOT NULL,
            queried INTEGER NOT NULL, answered INTEGER NOT NULL, rewarder TEXT);
INSERT INTO "rounds" VALUES(1,10.0,13.0,101,2,1,'56f23dfaabb5fd37');
INSERT INTO "rounds" VALUES(2,20.0,23.0,102,2,1,'56f23dfaabb5fd37');
CREATE TABLE weight_settings (
            id INTEGER PRIMARY KEY, at REAL NOT NULL, block INTEGER NOT NULL, outcome TEXT NOT NULL,
            detail TEXT NOT NULL, weights TEXT NOT NULL);
INSERT INTO "weight_settings" VALUES(1,5.5,9,'set','in block 9','{"3": 0.75, "10": 0.25}');
CREATE INDEX prompts_by_id ON prompts (prompt_id, round_id, position);
CREATE UNIQUE INDEX one_is_not_revealed ON commitments (revealed_at IS NULL) WHERE revealed_at IS NULL;
COMMIT;
