//! Disks that fill up or turn read-only under the daemon.
