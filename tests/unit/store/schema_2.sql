-- telemetry.db as the agent of schema 2 made it (`.dump` of that agent's database), with a little in it.
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
BEGIN TRANSACTION;
CREATE TABLE "counters" (
   "name" TEXT PRIMARY KEY,
   "value" INTEGER NOT NULL
) STRICT;
INSERT INTO "counters" VALUES('recorded',5);
INSERT INTO "counters" VALUES('pending_bytes',41);
INSERT INTO "counters" VALUES('acknowledged',2);
INSERT INTO "counters" VALUES('dropped:oversized',1);
INSERT INTO "counters" VALUES('quarantined',1);
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
INSERT INTO "events" VALUES(1,1.0,'info','hold','held',NULL,NULL,NULL);
INSERT INTO "events" VALUES(2,2.0,'error','deployment','rolled back','digits',1,'d-1');
CREATE TABLE "flash" (
   "deployment" TEXT PRIMARY KEY,
   "model" TEXT NOT NULL,
   "release" INTEGER NOT NULL,
   "began" REAL NOT NULL,
   "ended" REAL,
   "written" INTEGER NOT NULL
) STRICT;
INSERT INTO "flash" VALUES('d-1','digits',1,1.0,2.0,300000);
CREATE TABLE "meta" (
   "key" TEXT PRIMARY KEY,
   "value" TEXT NOT NULL
) STRICT;
INSERT INTO "meta" VALUES('epoch','e1d2c3b4a5968778');
CREATE TABLE "outbox" (
   "sequence" INTEGER PRIMARY KEY,
   "kind" TEXT NOT NULL,
   "priority" INTEGER NOT NULL,
   "size" INTEGER NOT NULL,
   "recorded" REAL NOT NULL,
   "body" BLOB NOT NULL
) STRICT;
INSERT INTO "outbox" VALUES(1,'event',1,20,1.0,X'7B7D');
INSERT INTO "outbox" VALUES(2,'health',0,21,2.0,X'7B7D');
CREATE TABLE "quarantine" (
   "sequence" INTEGER PRIMARY KEY,
   "kind" TEXT NOT NULL,
   "reason" TEXT NOT NULL,
   "size" INTEGER NOT NULL,
   "recorded" REAL NOT NULL,
   "body" BLOB NOT NULL
) STRICT;
INSERT INTO "quarantine" VALUES(4,'event','over 32728 bytes',40000,1.0,X'00');
CREATE TABLE "traffic" (
   "day" TEXT,
   "purpose" TEXT,
   "bytes_in" INTEGER NOT NULL,
   "bytes_out" INTEGER NOT NULL,
   PRIMARY KEY ("day", "purpose")
) STRICT;
INSERT INTO "traffic" VALUES('2026-11-01','telemetry',100,2000);
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
INSERT INTO "verdicts" VALUES(1,'x','ok',500,0.1,0.1,0.5,'ks',0.0,0.0);
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
INSERT INTO "windows" VALUES(1,'digits',1,'d-1','00',1.0,2.0,500,'ok','fine',X'7B7D');
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
CREATE VIEW "traffic_monthly" AS 
        SELECT substr(day, 1, 7) AS month, purpose, sum(bytes_in) AS bytes_in, sum(bytes_out) AS bytes_out
        FROM traffic GROUP BY month, purpose ORDER BY month DESC, purpose;
CREATE VIEW "flash_writes" AS 
        SELECT deployment, model, release, datetime(began, 'unixepoch') AS began_utc,
               datetime(ended, 'unixepoch') AS ended_utc, written
        FROM flash ORDER BY began DESC;
COMMIT;
PRAGMA user_version = 2;
