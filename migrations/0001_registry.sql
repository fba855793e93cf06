-- The registry. Two tables in arrival order: the cost of a registration must not
-- depend on how many sessions there are.
-- Numbers are never used again. What SQLite would keep of them, at a page more in
-- every commit, is kept in `meta` when the newest row goes: `compacted` for
-- revisions, `last_seq` for sessions.

-- One row per live or remembered session: what a recovery needs.
-- revision: of the last change. boot: which boot `written` counts from.
-- written: milliseconds on that boot's clock. spec: what sessions share.
CREATE TABLE session (
    seq INTEGER PRIMARY KEY,
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
    revision INTEGER PRIMARY KEY,
    previous INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    at INTEGER NOT NULL,
    request TEXT,
    asked BLOB,
    body BLOB NOT NULL
) STRICT;

-- The named calls, in arrival order too: a start asks for the last of them.
CREATE INDEX event_named ON event (revision) WHERE request IS NOT NULL;

-- What the registry knows about itself.
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value ANY
) STRICT, WITHOUT ROWID;
