//! `key auto-unlock …`: keys that come back from the secret store by themselves.
//!
//! Owns what a lockbox must be for `get` to ask the store ([`list`]), and in which
//! order list and store change, so that a command which fails half way leaves `get`
//! with less and not with more. The agent knows nothing of either.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use zeroize::Zeroizing;

use super::{Place, done, harden, place, read_key};
use crate::cli::context::Context;
use crate::cli::error::{CliError, exit};
use crate::cli::output::text::{Columns, clean, fields};
use crate::cli::output::{Format, note};
use crate::keycache::entry::LockboxId;

mod list;
mod store;

use list::{List, ListError};
use store::{ANSWER, Store, StoreError, within};

/// Commands on the keys in the secret store.
#[derive(Debug, Subcommand)]
pub enum AutoUnlockCommand {
    /// Show the store and the lockboxes it has keys of
    Status(Status),
    /// Store a key, read from stdin or a descriptor, for `key get` to find
    Enable(Enable),
    /// Let `key get` no longer use the stored key of a lockbox
    Disable(Disable),
    /// Remove the stored key of a lockbox
    Forget(Forget),
}

impl AutoUnlockCommand {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Status(command) => command.run(context).await,
            Self::Enable(command) => command.run(context).await,
            Self::Disable(command) => command.run(context),
            Self::Forget(command) => command.run(context).await,
        }
    }
}

/// The key of a lockbox that is enabled, out of the store; none for every other,
/// without a word with the store.
pub async fn recall(
    context: &Context,
    lockbox_id: &str,
) -> Result<Option<Zeroizing<Vec<u8>>>, CliError> {
    let id = parse(lockbox_id)?;
    if !List::read(&context.env)?.is_enabled(&id) {
        return Ok(None);
    }
    let asked = within(limit(context), async {
        Store::connect().await?.key(&id).await
    });
    let none = format!("no key of {} is kept", clean(id.as_str()));
    match asked.await {
        Ok(Some(key)) => Ok(Some(key)),
        Ok(None) => {
            let message = format!("{none}, and the secret store has none");
            Err(CliError::local(exit::NO_INPUT, "NOT_FOUND", message)
                .with_hint("`episodectl key auto-unlock enable` stores it"))
        }
        Err(error) => Err(failed(&format!("{none}, and "), &error)),
    }
}

/// Store a key, read from stdin or a descriptor, for `key get` to find.
#[derive(Debug, Args)]
#[command(
    after_help = "What is read is the key, to the last byte. It lies in the secret store of the desktop session
(Secret Service, such as gnome-keyring), in clear to every program of that session, as long as
the store is unlocked. From then on `key get` brings it back whenever the agent does not have it:
after `key lock`, `key lock-all` and `key stop`, too.

Examples:
  episodectl key auto-unlock enable vault-7 < key
  episodectl key auto-unlock enable vault-7 --fd 3 3< key"
)]
pub struct Enable {
    /// The lockbox's id
    lockbox_id: String,

    /// Read the key from this descriptor instead of stdin
    #[arg(long, value_name = "N", value_parser = place::descriptor)]
    fd: Option<u32>,
}

impl Enable {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let id = parse(&self.lockbox_id)?;
        let from = self.fd.map_or(Place::Standard, Place::Descriptor);
        // Before the key is stored: what cannot be listed is not shown by `status`.
        List::check(&context.env, &id)?;
        harden()?;
        let key = read_key(from.open(io::stdin(), exit::NO_INPUT)?)?;
        let stored = within(limit(context), async {
            Store::connect().await?.put(&id, &key).await
        });
        stored.await?;
        List::change(&context.env, |list| list.enable(id))?;
        done(context)
    }
}

/// Let `key get` no longer use the stored key of a lockbox.
#[derive(Debug, Args)]
#[command(
    after_help = "The key stays in the secret store, and in the agent if it is there. Needs no store.

Example:
  episodectl key auto-unlock disable vault-7"
)]
pub struct Disable {
    /// The lockbox's id
    lockbox_id: String,
}

impl Disable {
    fn run(self, context: &Context) -> Result<(), CliError> {
        let id = parse(&self.lockbox_id)?;
        if !List::change(&context.env, |list| list.disable(&id))? {
            note(format!("{} was not enabled", clean(id.as_str())));
        }
        done(context)
    }
}

/// Remove the stored key of a lockbox.
#[derive(Debug, Args)]
#[command(
    after_help = "The agent keeps the key if it has it: `key forget` is for that one.

Example:
  episodectl key auto-unlock forget vault-7"
)]
pub struct Forget {
    /// The lockbox's id
    lockbox_id: String,
}

impl Forget {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let id = parse(&self.lockbox_id)?;
        // First, so that `get` leaves alone what the store may fail to remove.
        List::change(&context.env, |list| list.disable(&id))?;
        let removed = within(limit(context), async {
            Store::connect().await?.remove(&id).await
        });
        let removed = removed.await?;
        List::change(&context.env, |list| list.remove(&id))?;
        note(if removed {
            "1 key removed from the secret store"
        } else {
            "no such key was stored"
        });
        done(context)
    }
}

/// Show the store and the lockboxes it has keys of.
#[derive(Debug, Args)]
#[command(
    after_help = "Ends with 0 when the store cannot be reached, too. Never shows a key.

Example:
  episodectl key auto-unlock status --format json"
)]
pub struct Status {}

/// What `status` shows.
#[derive(Serialize)]
struct Shown {
    store: &'static str,
    /// Why the store is not of use.
    problem: Option<String>,
    lockboxes: Vec<Lockbox>,
}

#[derive(Serialize)]
struct Lockbox {
    #[serde(rename = "lockboxId")]
    id: String,
    enabled: bool,
    /// None: nobody knows.
    stored: Option<bool>,
}

impl Status {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let list = List::read(&context.env)?;
        let shown = look(&list, limit(context)).await;
        let mut printer = context.printer();
        match context.format {
            Format::Table => printer.text(&shown.table())?,
            Format::Json | Format::Jsonl => printer.value(&shown)?,
        }
        printer.flush()
    }
}

async fn look(list: &List, limit: Duration) -> Shown {
    let looked = within(limit, async {
        let store = Store::connect().await?;
        let mut stored = Vec::new();
        for (id, _) in list.lockboxes() {
            stored.push(store.holds(id).await?);
        }
        Ok((store.is_locked().await, stored))
    });
    let looked = looked.await;
    let (state, stored) = match looked {
        Ok((state, stored)) => (state, stored.into_iter().map(Some).collect()),
        Err(error) => (Err(error), Vec::new()),
    };
    let (store, problem) = match state {
        Ok(false) => ("UNLOCKED", None),
        Ok(true) | Err(StoreError::Locked) => ("LOCKED", None),
        Err(error @ (StoreError::Unreachable(_) | StoreError::Silent(_))) => {
            ("UNREACHABLE", Some(whole(&error)))
        }
        Err(error) => ("UNUSABLE", Some(whole(&error))),
    };
    let stored = stored.into_iter().chain(std::iter::repeat(None));
    let lockboxes = list.lockboxes().zip(stored);
    Shown {
        store,
        problem,
        lockboxes: lockboxes
            .map(|((id, enabled), stored)| Lockbox {
                id: id.as_str().to_owned(),
                enabled,
                stored,
            })
            .collect(),
    }
}

impl Shown {
    fn table(&self) -> String {
        let mut text = fields(&[
            ("Secret store", self.store.to_lowercase()),
            ("Problem", self.problem.clone().unwrap_or_default()),
        ]);
        if self.lockboxes.is_empty() {
            return text;
        }
        let mut table = Columns::new(&["LOCKBOX", "AUTO-UNLOCK", "KEY"]);
        for lockbox in &self.lockboxes {
            let enabled = if lockbox.enabled {
                "enabled"
            } else {
                "disabled"
            };
            let stored = match lockbox.stored {
                Some(true) => "stored",
                Some(false) => "missing",
                None => "unknown",
            };
            let cells = [&lockbox.id, enabled, stored];
            table.row(cells.map(str::to_owned).to_vec());
        }
        text.push('\n');
        text.push_str(&table.take());
        text
    }
}

fn parse(lockbox_id: &str) -> Result<LockboxId, CliError> {
    LockboxId::parse(lockbox_id).map_err(|error| {
        let message = format!("lockbox_id {error}");
        CliError::local(exit::DATA, "INVALID_ARGUMENT", message)
    })
}

fn limit(context: &Context) -> Duration {
    context.timeout().min(ANSWER)
}

/// The error with its cause.
fn whole(error: &StoreError) -> String {
    match error.source() {
        Some(cause) => clean(&format!("{error}: {cause}")),
        None => error.to_string(),
    }
}

fn failed(before: &str, error: &StoreError) -> CliError {
    let (exit, code) = match error {
        StoreError::Unreachable(_) => (exit::UNREACHABLE, "UNAVAILABLE"),
        StoreError::Silent(_) => (exit::TRY_AGAIN, "DEADLINE_EXCEEDED"),
        StoreError::Locked => (exit::TRY_AGAIN, "FAILED_PRECONDITION"),
        StoreError::NoPlace => (exit::UNREACHABLE, "FAILED_PRECONDITION"),
        StoreError::NoKey => (exit::DATA, "DATA_LOSS"),
        StoreError::Failed(_) => (exit::UNREACHABLE, "UNKNOWN"),
    };
    CliError::local(exit, code, format!("{before}{}", whole(error))).with_hint(error.hint())
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        failed("", &error)
    }
}

impl From<ListError> for CliError {
    fn from(error: ListError) -> Self {
        let (exit, code) = match &error {
            ListError::NoHome => (exit::USAGE, "INVALID_ARGUMENT"),
            ListError::Malformed(_) => (exit::DATA, "DATA_LOSS"),
            ListError::Full => (exit::TRY_AGAIN, "RESOURCE_EXHAUSTED"),
            ListError::Directory(_) | ListError::Io(..) | ListError::Exposed(_) => {
                (exit::CANNOT_CREATE, "FAILED_PRECONDITION")
            }
        };
        let message = match error.source() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
        Self::local(exit, code, message).with_hint(error.hint())
    }
}
