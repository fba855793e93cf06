//! What the context firewall does for one session, and what it has done.
//!
//! A [`Firewall`] is fixed at registration and shared by sessions that have the
//! same. What moves is in the session: which pins it has lifted, how often it was
//! denied. The decisions themselves are [`crate::firewall`]'s.

use std::sync::Arc;

use crate::{
    clock::Now,
    firewall::{decide::DenialReason, manifest::ManifestHash, path::AbsolutePath},
    session::state::Actor,
};

/// Denials a session that goes on after them survives, unless it says otherwise.
pub const MAX_DENIALS: u32 = 50;

/// Whether decisions are enforced. A session without a firewall has no mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Decides and records, never refuses.
    Audit,
    /// Denies what is not allowed.
    Consume,
}

/// What a denial does to the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnDenial {
    /// Ends it, if it is a denial that does.
    End,
    /// Nothing, up to so many denials.
    Continue {
        /// The last that it survives.
        max_denials: u32,
    },
}

/// A manifest by its names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ManifestRef {
    /// What identifies it.
    pub hash: ManifestHash,
    /// Its name.
    pub id: Box<str>,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Firewall {
    /// Whether it is enforced.
    pub mode: Mode,
    /// What a denial does.
    pub on_denial: OnDenial,
    /// What is allowed, for the session's life.
    pub manifest: Arc<ManifestRef>,
    /// What the manifest's paths are relative to, as the session names it.
    pub workspace_root: AbsolutePath,
    /// The same directory as the daemon opens it; none: the same path.
    pub host_root: Option<AbsolutePath>,
}

impl Firewall {
    /// Where the daemon opens the workspace.
    pub fn opened_at(&self) -> &AbsolutePath {
        self.host_root.as_ref().unwrap_or(&self.workspace_root)
    }
}

/// The name of one decision: `D-`, the time, and a number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DecisionId(Box<str>);

impl DecisionId {
    /// That of the decision with that number: its time is in it, so that it can be
    /// found.
    pub fn new(now: Now, number: u64) -> Self {
        const TIME: u32 = 11;
        const NUMBER: u32 = 6;
        let mut text = String::with_capacity(2 + (TIME + NUMBER) as usize);
        text.push_str("D-");
        push_hex(&mut text, now.wall, TIME);
        push_hex(&mut text, number, NUMBER);
        Self(text.into())
    }

    /// One that was kept.
    pub fn kept(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The last digits of a number. Every decision is named, and `format!` is what
/// naming it would cost most.
fn push_hex(text: &mut String, number: u64, digits: u32) {
    for at in (0..digits).rev() {
        let digit = (number >> (4 * at)) as u32 & 0xf;
        text.extend(char::from_digit(digit, 16));
    }
}

/// A request that was denied, or would have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The decision.
    pub decision: DecisionId,
    /// Why.
    pub reason: DenialReason,
    /// What kind of request it was, in a word.
    pub request: Box<str>,
    /// What was judged.
    pub subject: Box<str>,
    /// What it was based on.
    pub rule: Box<str>,
    /// More on why.
    pub detail: Box<str>,
    /// Whether it was refused.
    pub enforced: bool,
    /// How many this stands for.
    pub count: u64,
}

/// A denial on its way to the journal.
#[derive(Debug, Clone)]
pub struct Noted {
    /// What was denied.
    pub denial: Arc<Denial>,
    /// To whom.
    pub actor: Actor,
    /// The session's denials by then, this one included.
    pub total: u64,
}

#[cfg(test)]
mod tests {
    use super::DecisionId;
    use crate::clock::Now;

    #[test]
    fn a_decision_is_named_by_its_time_and_the_end_of_its_number() {
        for (wall, number) in [(0, 0), (0x19a_bcde_f012, 0x12_3456), (u64::MAX, u64::MAX)] {
            let now = Now {
                wall,
                boot: 0,
                awake: 0,
            };
            let id = DecisionId::new(now, number);
            let (wall, number) = (wall & 0xfff_ffff_ffff, number & 0xff_ffff);
            assert_eq!(id.as_str(), format!("D-{wall:011x}{number:06x}"));
        }
    }
}
