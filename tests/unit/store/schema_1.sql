-- telemetry.db as the agent of schema 1 made it (`.dump` of that agent's database), with a little in it.
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
BEGIN TRANSACTION;
CREATE TABLE "counters" (
   "name" TEXT PRIMARY KEY,
   "value" INTEGER NOT NULL
) STRICT;
CREATE TABLE "events" (
   "id" INTEGER PRIMARY KEY,
   "time" REAL NOT NULL,
   "severity" TEXT NOT NULL,
   "kind" TEXT NOT NULL,
   "text" TEXT NOT NULL,
   "model" TEXT,
   "release" INTEGER,
   "deployment" TEXT
) STRICT;
CREATE TABLE "meta" (
   "key" TEXT PRIMARY KEY,
   "value" TEXT NOT NULL
) STRICT;
INSERT INTO "meta" VALUES('epoch','9a3a703e6c7c715c');
CREATE TABLE "outbox" (
   "sequence" INTEGER PRIMARY KEY,
   "kind" TEXT NOT NULL,
   "priority" INTEGER NOT NULL,
   "size" INTEGER NOT NULL,
   "recorded" REAL NOT NULL,
   "body" BLOB NOT NULL
) STRICT;
CREATE TABLE "quarantine" (
   "sequence" INTEGER PRIMARY KEY,
   "kind" TEXT NOT NULL,
   "reason" TEXT NOT NULL,
   "size" INTEGER NOT NULL,
   "recorded" REAL NOT NULL,
   "body" BLOB NOT NULL
) STRICT;
CREATE TABLE "verdicts" (
   "window" INTEGER REFERENCES "windows"("id"),
   "signal" TEXT,
   "level" TEXT,
   "rows" INTEGER,
   "psi" REAL,
   "ks" REAL,
   "p_value" REAL,
   "test" TEXT,
   "missing_rate" REAL,
   "outside_rate" REAL,
   PRIMARY KEY ("window", "signal")
) STRICT;
CREATE TABLE "windows" (
   "id" INTEGER PRIMARY KEY,
   "model" TEXT NOT NULL,
   "release" INTEGER NOT NULL,
   "deployment" TEXT NOT NULL,
   "artifact" TEXT NOT NULL,
   "opened" REAL NOT NULL,
   "closed" REAL NOT NULL,
   "rows" INTEGER NOT NULL,
   "level" TEXT NOT NULL,
   "reason" TEXT NOT NULL,
   "body" BLOB NOT NULL
) STRICT;
CREATE INDEX "idx_outbox_priority_sequence"
    ON "outbox" ("priority", "sequence");
CREATE INDEX "idx_windows_model_id"
    ON "windows" ("model", "id");
CREATE VIEW "drift_latest" AS 
        SELECT model, release, level, rows, reason, datetime(opened, 'unixepoch') AS opened_utc,
               datetime(closed, 'unixepoch') AS closed_utc, deployment, artifact, id AS window
        FROM windows WHERE id IN (SELECT max(id) FROM windows GROUP BY model);
CREATE VIEW "drift_signals_latest" AS 
        SELECT windows.model, verdicts.signal, verdicts.level, verdicts.rows, psi, ks, p_value, test, missing_rate, outside_rate
        FROM verdicts JOIN windows ON windows.id = verdicts.window
        WHERE windows.id IN (SELECT max(id) FROM windows GROUP BY model) ORDER BY windows.model, psi DESC;
CREATE VIEW "drift_history" AS 
        SELECT id AS window, model, release, level, rows, reason, datetime(closed, 'unixepoch') AS closed_utc
        FROM windows ORDER BY id DESC;
CREATE VIEW "events_readable" AS 
        SELECT id, datetime(time, 'unixepoch') AS time_utc, severity, kind, text, model, release, deployment
        FROM events ORDER BY id DESC;
CREATE VIEW "outbox_ledger" AS 
        SELECT (SELECT value FROM meta WHERE key = 'epoch') AS epoch,
               coalesce((SELECT value FROM counters WHERE name = 'recorded'), 0) AS recorded,
               coalesce((SELECT value FROM counters WHERE name = 'acknowledged'), 0) AS acknowledged,
               (SELECT count(*) FROM outbox) AS pending,
               coalesce((SELECT sum(value) FROM counters WHERE name LIKE 'dropped:%'), 0) AS dropped,
               coalesce((SELECT sum(size) FROM outbox), 0) AS pending_bytes;
INSERT INTO "counters" VALUES('recorded',2),('acknowledged',1),('pending_bytes',17);
INSERT INTO "events" VALUES(1,1000.0,'info','hold','held',NULL,NULL,NULL),(2,2000.0,'info','deployment','release 1 is probing','digits',1,'d-1');
INSERT INTO "outbox" VALUES(2,'event',1,17,2000.0,X'7B2274797065223A226576656E74227D20');
INSERT INTO "windows" VALUES(1,'digits',1,'d-1','00',1.0,2.0,300,'ok','fine',X'7B7D');
INSERT INTO "verdicts" VALUES(1,'x','ok',300,0.01,0.02,0.5,'chi2',0.0,0.0);
COMMIT;
PRAGMA user_version = 1;
