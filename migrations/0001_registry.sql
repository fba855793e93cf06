-- The registry. Two tables in arrival order, and no index besides: the cost of a
-- registration must not depend on how many sessions there are.

-- One row per live or remembered session: what a recovery needs.
-- revision: of the last change. boot: which boot `written` counts from.
-- written: milliseconds on that boot's clock. spec: what sessions share.
CREATE TABLE session (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    revision INTEGER NOT NULL,
    boot INTEGER NOT NULL,
    written INTEGER NOT NULL,
    spec BLOB NOT NULL,
    body BLOB NOT NULL
) STRICT;

-- History: append-only, deleted from the front.
-- previous: the same session's event before it, 0 for none. at: milliseconds
-- since the epoch. request, asked: a named call and the digest of its body.
CREATE TABLE event (
    revision INTEGER PRIMARY KEY AUTOINCREMENT,
    previous INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    at INTEGER NOT NULL,
    request TEXT,
    asked BLOB,
    body BLOB NOT NULL
) STRICT;

-- What the registry knows about itself.
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value ANY
) STRICT, WITHOUT ROWID;
