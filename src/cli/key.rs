//! `key …`: keys in the cache of this user.
//!
//! Owns how a key enters and leaves the CLI: by stdin and descriptors, never by
//! the command line, a terminal or a file of its own. `put` and `get` start the
//! agent when there is none; nothing else does.

use std::io::{self, Write};
use std::path::Path;

use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use super::args;
use super::context::Context;
use super::error::{CliError, exit};
use super::output::protojson::to_json;
use super::output::text::{Columns, clean};
use super::output::{Format, note, protojson::duration_text};
use super::secrets::HandleArgs;
use crate::client::keycache::Keep;
use crate::client::{ClientError, KeyCache};
use crate::keycache::entry::LockboxId;
use crate::proto::keycache::{self as pb, ActivityKind};
use crate::reason::Reason;

mod agent;
mod auto_unlock;
mod exec;
mod grant;
mod place;
mod status;

use auto_unlock::AutoUnlockCommand;
use place::{Place, harden, read_key};

pub use agent::{AGENT_ARGUMENT, AGENT_CHECK_ARGUMENT};

/// What the help of a command says that forgets keys.
macro_rules! store_stays {
    () => {
        "A lockbox with auto-unlock comes back with the next `key get`: the secret store is not touched.
`key auto-unlock disable` stops that.

"
    };
}

/// Commands on keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Keep a key, read from stdin or a descriptor
    Put(Put),
    /// Write a key to a descriptor
    Get(Get),
    /// Run a program with a key on its stdin
    Exec(exec::Exec),
    /// Give a key to the session of an episode
    Grant(grant::Grant),
    /// Take a key back from a session
    Revoke(grant::Revoke),
    /// Forget the key of a lockbox
    Forget(Forget),
    /// List what is kept
    #[command(visible_alias = "list")]
    Sessions(Sessions),
    /// Forget the key of a lockbox, by its id or path
    Lock(Lock),
    /// Forget all keys
    LockAll(LockAll),
    /// Show what the agent is and holds
    Status(status::Status),
    /// Forget all keys and end the agent
    Stop(Stop),
    /// Have keys come back from the desktop's secret store
    #[command(subcommand)]
    AutoUnlock(AutoUnlockCommand),
}

/// The same as source 001 names it.
#[derive(Debug, Subcommand)]
pub enum VaultCommand {
    /// List what is kept, or do something about it
    Sessions(VaultSessions),
}

/// `vault sessions`, alone or with what to do.
#[derive(Debug, Args)]
pub struct VaultSessions {
    #[command(subcommand)]
    what: Option<VaultSessionsCommand>,
}

#[derive(Debug, Subcommand)]
enum VaultSessionsCommand {
    /// List what is kept
    List(Sessions),
    /// Forget the key of a lockbox, by its id or path
    Lock(Lock),
    /// Forget all keys
    LockAll(LockAll),
    /// Forget all keys and end the agent
    Stop(Stop),
    /// Have keys come back from the desktop's secret store
    #[command(subcommand)]
    AutoUnlock(AutoUnlockCommand),
}

impl KeyCommand {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Put(command) => command.run(context).await,
            Self::Get(command) => command.run(context).await,
            Self::Exec(command) => command.run(context).await,
            Self::Grant(command) => command.run(context).await,
            Self::Revoke(command) => command.run(context).await,
            Self::Forget(command) => command.run(context).await,
            Self::Sessions(command) => command.run(context).await,
            Self::Lock(command) => command.run(context).await,
            Self::LockAll(command) => command.run(context).await,
            Self::Status(command) => command.run(context).await,
            Self::Stop(command) => command.run(context).await,
            Self::AutoUnlock(command) => command.run(context).await,
        }
    }
}

impl VaultCommand {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let Self::Sessions(VaultSessions { what }) = self;
        match what {
            None => Sessions {}.run(context).await,
            Some(VaultSessionsCommand::List(command)) => command.run(context).await,
            Some(VaultSessionsCommand::Lock(command)) => command.run(context).await,
            Some(VaultSessionsCommand::LockAll(command)) => command.run(context).await,
            Some(VaultSessionsCommand::Stop(command)) => command.run(context).await,
            Some(VaultSessionsCommand::AutoUnlock(command)) => command.run(context).await,
        }
    }
}

/// Keep a key, read from stdin or a descriptor.
#[derive(Debug, Args)]
#[command(
    after_help = "Starts the agent when there is none. What is read is the key, to the last byte.

Examples:
  head -c 32 /dev/urandom | episodectl key put vault-7
  episodectl key put vault-7 --path ~/vault.lbox --ttl 1h --fd 3 3< key"
)]
pub struct Put {
    /// The lockbox's id
    lockbox_id: String,

    /// Where the lockbox lies
    #[arg(long, default_value = "", hide_default_value = true)]
    path: String,

    /// How long the key is kept, from now and from each use [default: 15m]
    #[arg(long, value_name = "DURATION", value_parser = args::wire_duration)]
    ttl: Option<prost_types::Duration>,

    /// A use prolongs nothing
    #[arg(long)]
    absolute: bool,

    /// How long it is kept at most, however it is used; 0s: without end [default: 8h, or the TTL if longer]
    #[arg(long, value_name = "DURATION", value_parser = args::wire_duration)]
    max_lifetime: Option<prost_types::Duration>,

    /// Read the key from this descriptor instead of stdin
    #[arg(long, value_name = "N", value_parser = place::descriptor)]
    fd: Option<u32>,
}

impl Put {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let from = self.fd.map_or(Place::Standard, Place::Descriptor);
        harden()?;
        let key = read_key(from.open(io::stdin(), exit::NO_INPUT)?)?;
        let keep = Keep {
            ttl: self.ttl,
            absolute: self.absolute,
            max_lifetime: self.max_lifetime,
        };
        let cache = agent::ensure(context).await?;
        let activity = Activity::begin(&cache, ActivityKind::Open).await?;
        let put = cache.put(&self.lockbox_id, &self.path, &key, keep).await;
        activity.end().await;
        put?;
        done(context)
    }
}

/// Write a key to a descriptor.
#[derive(Debug, Args)]
#[command(
    after_help = "Starts the agent when there is none. A key that the agent does not have comes from the secret
store if `key auto-unlock` says so, and is kept from then on. Ends with 66 when the key is not there.

Examples:
  episodectl key get vault-7 --out - | openssl dgst -sha256
  episodectl key get vault-7 --out fd:3 3> >(unlock)"
)]
pub struct Get {
    /// The lockbox's id
    lockbox_id: String,

    /// Where the key goes: fd:N, or - for stdout; never a terminal
    #[arg(long, value_name = "fd:N|-")]
    out: Place,

    /// Take the key that the session of the handle owns, see `key grant`
    #[arg(long)]
    own: bool,

    #[command(flatten)]
    handle: HandleArgs,
}

impl Get {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        harden()?;
        let mut out = self.out.open(io::stdout(), exit::CANNOT_CREATE)?;
        let cache = if self.own {
            agent::find(context).await?
        } else {
            Some(agent::ensure(context).await?)
        };
        // An agent that were started now would have nothing that anybody owns.
        let cache = cache.ok_or_else(|| none_owned(&self.lockbox_id))?;
        let activity = Activity::begin(&cache, ActivityKind::Open).await?;
        let fetched = if self.own {
            self.fetch_own(context, &cache).await
        } else {
            fetch(context, &cache, &self.lockbox_id).await
        };
        let written = fetched.and_then(|key| {
            let written = out.write_all(&key).and_then(|()| out.flush());
            // A reader that has gone has no key, so this is no success.
            written.map_err(|error| CliError::writing(Path::new("the key"), &error))
        });
        activity.end().await;
        written
    }

    async fn fetch_own(
        &self,
        context: &Context,
        cache: &KeyCache,
    ) -> Result<Zeroizing<Vec<u8>>, CliError> {
        let handle = self.handle.require(&context.env)?;
        let key = cache
            .clone()
            .with_handle(handle)
            .get(&self.lockbox_id)
            .await?;
        key.ok_or_else(|| none_kept(&self.lockbox_id))
    }
}

/// The key out of the cache, else out of the secret store if it may be: then the
/// agent has it from now on, too.
async fn fetch(
    context: &Context,
    cache: &KeyCache,
    id: &str,
) -> Result<Zeroizing<Vec<u8>>, CliError> {
    if let Some(key) = cache.get(id).await? {
        return Ok(key);
    }
    let key = auto_unlock::recall(context, id).await?;
    let key = key.ok_or_else(|| none_kept(id))?;
    cache.put(id, "", &key, Keep::default()).await?;
    Ok(key)
}

fn none_owned(id: &str) -> CliError {
    let message = format!("no key of {} is kept for this session", clean(id));
    CliError::local(exit::NO_INPUT, "NOT_FOUND", message).with_hint(
        "it was not granted, or is used up or over: `episodectl key grant` gives another",
    )
}

fn none_kept(id: &str) -> CliError {
    let message = format!("no key of {} is kept", clean(id));
    CliError::local(exit::NO_INPUT, "NOT_FOUND", message)
        .with_hint("keep it with `episodectl key put`")
}

fn is_forgiven(error: &ClientError) -> bool {
    let reasons = [
        Reason::RateLimited,
        Reason::ProcessNotFound,
        Reason::KeysWiped,
    ];
    error.reason.is_some_and(|reason| reasons.contains(&reason))
}

/// That this process has a key in hand: the machine is kept awake meanwhile. A
/// command that may not say so goes on without.
struct Activity<'a> {
    cache: &'a KeyCache,
    token: Option<u64>,
}

impl<'a> Activity<'a> {
    async fn begin(cache: &'a KeyCache, kind: ActivityKind) -> Result<Self, CliError> {
        let token = match cache.begin_activity(std::process::id(), kind).await {
            Ok(token) => Some(token),
            // Too many have said so, or the agent cannot see this process.
            Err(error) if is_forgiven(&error) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Self { cache, token })
    }

    async fn end(self) {
        if let Some(token) = self.token {
            let _ = self.cache.end_activity(std::process::id(), token).await;
        }
    }
}

/// Forget the key of a lockbox.
#[derive(Debug, Args)]
#[command(after_help = concat!(store_stays!(), "Example:\n  episodectl key forget vault-7"))]
pub struct Forget {
    /// The lockbox's id
    lockbox_id: String,
}

impl Forget {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let forgotten = match running(context).await? {
            Some(cache) => Some(cache.forget(&self.lockbox_id).await?),
            None => None,
        };
        told(context, forgotten)
    }
}

/// Forget the key of a lockbox, by its id or path.
#[derive(Debug, Args)]
#[command(after_help = concat!(store_stays!(), "Examples:
  episodectl key lock vault-7
  episodectl key lock ~/vault.lbox"))]
pub struct Lock {
    /// The lockbox's id, or where it lies
    #[arg(value_name = "ID|PATH")]
    lockbox: String,
}

impl Lock {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let Some(cache) = running(context).await? else {
            return told(context, None);
        };
        let by_path = cache.forget_path(&self.lockbox).await?;
        // A path may be longer than an id.
        let by_id = match LockboxId::parse(&self.lockbox) {
            Ok(_) => cache.forget(&self.lockbox).await?,
            Err(_) => 0,
        };
        told(context, Some(by_path + by_id))
    }
}

/// Forget all keys.
#[derive(Debug, Args)]
#[command(after_help = concat!(store_stays!(), "Example:\n  episodectl key lock-all"))]
pub struct LockAll {}

impl LockAll {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let forgotten = match running(context).await? {
            Some(cache) => Some(cache.forget_all().await?),
            None => None,
        };
        told(context, forgotten)
    }
}

/// A word to people, an object to programs. None: there is no agent, which was said.
fn told(context: &Context, forgotten: Option<u32>) -> Result<(), CliError> {
    let mut printer = context.printer();
    match (context.format, forgotten) {
        (Format::Table, None) => {}
        (Format::Table, Some(0)) => note("no such key was kept"),
        (Format::Table, Some(1)) => note("1 key forgotten"),
        (Format::Table, Some(many)) => note(format!("{many} keys forgotten")),
        (Format::Json | Format::Jsonl, forgotten) => {
            let forgotten = forgotten.unwrap_or(0);
            printer.value(&serde_json::json!({ "forgotten": forgotten }))?;
        }
    }
    printer.flush()
}

/// Nothing to people, an object to programs.
fn done(context: &Context) -> Result<(), CliError> {
    let mut printer = context.printer();
    if context.format != Format::Table {
        printer.value(&serde_json::json!({}))?;
    }
    printer.flush()
}

/// The agent, if one runs; says that there is none.
async fn running(context: &Context) -> Result<Option<KeyCache>, CliError> {
    let cache = agent::find(context).await?;
    if cache.is_none() && context.format == Format::Table {
        note("no agent runs: no key is kept");
    }
    Ok(cache)
}

/// List what is kept.
#[derive(Debug, Args)]
#[command(after_help = "Prolongs nothing, and starts no agent.

Example:
  episodectl key sessions --format json")]
pub struct Sessions {}

impl Sessions {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let keys = match running(context).await? {
            Some(cache) => cache.list().await?,
            None => Vec::new(),
        };
        let mut printer = context.printer();
        match context.format {
            Format::Table => {
                let mut table = Columns::new(&["LOCKBOX", "PATH", "REMAINING", "USES", "OWNER"]);
                for key in &keys {
                    table.row(row(key));
                }
                printer.text(&table.take())?;
            }
            Format::Json => {
                let next_page_token = String::new();
                printer.json(&to_json(&pb::ListKeysResponse {
                    keys,
                    next_page_token,
                }))?;
            }
            Format::Jsonl => {
                for key in &keys {
                    printer.json(&to_json(key))?;
                }
            }
        }
        printer.flush()
    }
}

fn row(key: &pb::CachedKey) -> Vec<String> {
    let remaining = key.remaining.as_ref().map(whole_seconds);
    vec![
        key.lockbox_id.clone(),
        key.path.clone(),
        remaining.as_ref().map(duration_text).unwrap_or_default(),
        key.hits.to_string(),
        key.owner.as_ref().map(owner_text).unwrap_or_default(),
    ]
}

fn owner_text(owner: &pb::Owner) -> String {
    match owner.max_uses {
        0 => owner.session_id.clone(),
        left => format!("{} ({left} more uses)", owner.session_id),
    }
}

fn whole_seconds(duration: &prost_types::Duration) -> prost_types::Duration {
    prost_types::Duration {
        nanos: 0,
        ..*duration
    }
}

/// Forget all keys and end the agent.
#[derive(Debug, Args)]
#[command(after_help = concat!(store_stays!(), "Example:\n  episodectl key stop"))]
pub struct Stop {}

impl Stop {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let Some(cache) = running(context).await? else {
            return done(context);
        };
        let pid = cache.status().await?.pid;
        cache.stop().await?;
        agent::wait_until_gone(context, pid).await?;
        done(context)
    }
}
