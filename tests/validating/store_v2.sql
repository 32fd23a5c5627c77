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
INSERT INTO "meta" VALUES('schema_version','2');
CREATE TABLE miners (
            hotkey TEXT PRIMARY KEY, uid INTEGER NOT NULL, registered_at INTEGER NOT NULL, accumulator REAL NOT NULL,
            accumulated_weight REAL NOT NULL, observations INTEGER NOT NULL, last_round INTEGER NOT NULL);
INSERT INTO "miners" VALUES('alice',3,11,0.5,1.0,2,2);
INSERT INTO "miners" VALUES('bob',4,12,0.0,1.0,2,2);
CREATE TABLE prompts (
            round_id INTEGER NOT NULL, position INTEGER NOT NULL, topic TEXT NOT NULL, text TEXT NOT NULL,
            similarity REAL NOT NULL, source TEXT NOT NULL,
            PRIMARY KEY (round_id, position));
INSERT INTO "prompts" VALUES(1,0,'colours','a red circle',0.5,'pocket');
INSERT INTO "prompts" VALUES(2,0,'colours','a red circle',0.5,'pocket');
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
COMMIT;
