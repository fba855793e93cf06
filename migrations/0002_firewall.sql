-- What the context firewall keeps.

-- Manifests, each once: the body is the encoding that the hash is over.
CREATE TABLE manifest (
    number INTEGER PRIMARY KEY,
    hash BLOB NOT NULL,
    body BLOB NOT NULL
) STRICT;

-- Refinements, by the revision they were asked at.
CREATE TABLE refinement (
    id INTEGER PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;

-- How many refinements a work id has had, and when the last: milliseconds since
-- the epoch.
CREATE TABLE refining (
    work TEXT PRIMARY KEY,
    count INTEGER NOT NULL,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
