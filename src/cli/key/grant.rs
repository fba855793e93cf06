//! `key grant` and `key revoke`: a key for one episode.

use std::io;
use std::path::{Component, Path};
use std::time::Duration;

use clap::Args;
use prost_types::Timestamp;
use zeroize::Zeroizing;

use super::{Activity, Place, agent, done, fetch, harden, place, read_key, running, told};
use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::error::{CliError, exit};
use crate::client::KeyCache;
use crate::clock::{Clock as _, SystemClock};
use crate::proto::keycache::{self as pb, ActivityKind};

/// Where systemd puts the credentials of a unit.
const CREDENTIALS_VAR: &str = "CREDENTIALS_DIRECTORY";

/// Give a key to the session of an episode.
#[derive(Debug, Args)]
#[command(
    after_help = "Gives the key that the cache keeps under that id, unless another source is named. The
episode takes it with its handle: `episodectl key get ID --own --out fd:3`. It is
forgotten at its time, after its uses, with the session, by `key revoke`, and with all
other keys.

Examples:
  episodectl key grant vault-7 --session S1 --for 30m
  episodectl key grant vault-7 --session S1 --for 30m --uses 1 --fd 3 3< key
  episodectl key grant vault-7 --session S1 --for 8h --credential vault-7
          In a systemd unit with LoadCredential=vault-7:/path"
)]
pub struct Grant {
    /// The lockbox's id
    lockbox_id: String,

    /// The session that shall own the key
    #[arg(long, value_name = "SESSION_ID")]
    session: String,

    /// Until when, from now: at most 24h. No use moves it
    #[arg(long = "for", value_name = "DURATION", value_parser = args::duration)]
    time: Duration,

    /// Forget it after so many uses [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    uses: Option<u32>,

    /// Read the key from this descriptor instead of the cache
    #[arg(long, value_name = "N", value_parser = place::descriptor, conflicts_with = "credential")]
    fd: Option<u32>,

    /// Take the key from this credential of the systemd unit instead of the cache
    #[arg(long, value_name = "NAME")]
    credential: Option<String>,
}

impl Grant {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        harden()?;
        let given = self.given(context)?;
        let cache = agent::ensure(context).await?;
        let activity = Activity::begin(&cache, ActivityKind::Open).await?;
        let granted = self.grant(context, &cache, given).await;
        activity.end().await;
        granted?;
        done(context)
    }

    async fn grant(
        &self,
        context: &Context,
        cache: &KeyCache,
        given: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<(), CliError> {
        let key = match given {
            Some(key) => key,
            None => fetch(context, cache, &self.lockbox_id).await?,
        };
        let owner = pb::Owner {
            session_id: self.session.clone(),
            expire_time: Some(from_now(self.time)?),
            max_uses: self.uses.unwrap_or(0),
        };
        Ok(cache.grant(&self.lockbox_id, &key, owner).await?)
    }

    /// The key, unless the cache has it.
    fn given(&self, context: &Context) -> Result<Option<Zeroizing<Vec<u8>>>, CliError> {
        if let Some(number) = self.fd {
            let from = Place::Descriptor(number).open(io::stdin(), exit::NO_INPUT)?;
            return read_key(from).map(Some);
        }
        let Some(name) = &self.credential else {
            return Ok(None);
        };
        let path = credential(context, name)?;
        let file = std::fs::File::open(&path).map_err(|error| CliError::reading(&path, &error))?;
        read_key(file).map(Some)
    }
}

fn credential(context: &Context, name: &str) -> Result<std::path::PathBuf, CliError> {
    let Some(directory) = context.env.var(CREDENTIALS_VAR) else {
        let message = format!("there are no credentials: {CREDENTIALS_VAR} is not set");
        return Err(CliError::local(exit::NO_INPUT, "NOT_FOUND", message)
            .with_hint("run this in a systemd unit with LoadCredential="));
    };
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(_)), None) => Ok(Path::new(directory).join(name)),
        _ => Err(CliError::usage(
            "a credential's name is one name, without a slash",
            "name it as LoadCredential= does",
        )),
    }
}

fn from_now(time: Duration) -> Result<Timestamp, CliError> {
    let clock = SystemClock::new()
        .map_err(|error| CliError::local(exit::SOFTWARE, "INTERNAL", error.to_string()))?;
    let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let ends = clock.now().wall.saturating_add(time);
    Ok(Timestamp {
        seconds: i64::try_from(ends / 1000).unwrap_or(i64::MAX),
        nanos: (ends % 1000) as i32 * 1_000_000,
    })
}

/// Take a key back from a session.
#[derive(Debug, Args)]
#[command(
    after_help = "Starts no agent. What was given out already is not taken back.

Example:
  episodectl key revoke vault-7 --session S1"
)]
pub struct Revoke {
    /// The lockbox's id
    lockbox_id: String,

    /// The session that owns the key
    #[arg(long, value_name = "SESSION_ID")]
    session: String,
}

impl Revoke {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let forgotten = match running(context).await? {
            Some(cache) => Some(cache.revoke(&self.lockbox_id, &self.session).await?),
            None => None,
        };
        told(context, forgotten)
    }
}
