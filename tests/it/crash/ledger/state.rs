//! The state of one session and what changes it.

/// Whether a session is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Fate {
    #[default]
    Absent,
    Live,
    Ended(Ending),
}

/// How a session ended: its first record, for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    pub reason: i32,
    pub exit_code: Option<i32>,
    pub detail: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lease {
    #[default]
    None,
    Held,
    Revoked,
}

/// What must be seen of a session.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct State {
    pub fate: Fate,
    pub episode: Option<String>,
    /// The value of its one label.
    pub number: u64,
    pub lease: Lease,
    pub stop_requested: bool,
    /// The current handle; none if its answer was cut off.
    handle: Option<String>,
    /// Handles that were replaced.
    replaced: Vec<String>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("fate", &self.fate)
            .field("episode", &self.episode)
            .field("number", &self.number)
            .field("lease", &self.lease)
            .field("stop_requested", &self.stop_requested)
            .field("replaced_handles", &self.replaced.len())
            .finish_non_exhaustive()
    }
}

impl State {
    /// The handle that must be accepted, if it is known.
    pub fn live_handle(&self) -> Option<&String> {
        self.handle.as_ref().filter(|_| self.fate == Fate::Live)
    }

    /// The handle as it was last known, dead or alive.
    pub fn last_handle(&self) -> Option<&String> {
        self.handle.as_ref().or(self.replaced.last())
    }

    /// The handles that must be refused.
    pub fn dead_handles(&self) -> impl Iterator<Item = &String> {
        let own = self.handle.as_ref().filter(|_| self.fate != Fate::Live);
        self.replaced.iter().chain(own)
    }

    /// A start revokes every lease.
    pub fn restarted(&mut self) {
        if self.lease == Lease::Held {
            self.lease = Lease::Revoked;
        }
    }
}

/// One session's part in an operation.
#[derive(Clone)]
pub enum Change {
    /// With the handle that was answered, if it was answered.
    Registered {
        handle: Option<String>,
        number: u64,
        leased: bool,
    },
    Bound {
        episode: String,
    },
    Renewed,
    /// With the new handle, if it was answered.
    Rotated {
        handle: Option<String>,
    },
    Labelled {
        number: u64,
    },
    StopRequested,
    Ended(Ending),
    Removed,
}

/// Without the handle.
impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind())
    }
}

/// Changes that one commit makes: all of them or none.
pub type Operation = Vec<(String, Change)>;

impl Change {
    pub fn apply(&self, before: &State) -> State {
        let mut after = before.clone();
        match self {
            Self::Registered {
                handle,
                number,
                leased,
            } => {
                after.fate = Fate::Live;
                after.number = *number;
                after.handle.clone_from(handle);
                after.lease = if *leased { Lease::Held } else { Lease::None };
            }
            Self::Bound { episode } => after.episode = Some(episode.clone()),
            Self::Renewed => after.lease = Lease::Held,
            Self::Rotated { handle } => {
                after.replaced.extend(after.handle.take());
                after.handle.clone_from(handle);
            }
            Self::Labelled { number } => after.number = *number,
            Self::StopRequested => after.stop_requested = true,
            Self::Ended(ending) => after.fate = Fate::Ended(ending.clone()),
            Self::Removed => after.fate = Fate::Absent,
        }
        after
    }

    /// The event that tells of it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Registered { .. } => "CREATED",
            Self::Bound { .. } => "BOUND",
            Self::Renewed => "LEASE_RENEWED",
            Self::Rotated { .. } => "HANDLE_ROTATED",
            Self::Labelled { .. } => "UPDATED",
            Self::StopRequested => "STOP_REQUESTED",
            Self::Ended(_) => "TERMINATED",
            Self::Removed => "REMOVED",
        }
    }
}
