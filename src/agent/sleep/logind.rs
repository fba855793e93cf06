//! logind, over the system bus.
//!
//! Speaks to a bus on a Unix socket only: an address that would open a connection
//! to the network, or run a program, is refused.

use std::{fmt, pin::Pin, time::Duration};

use futures_util::{Stream, StreamExt as _, stream::select};
use tokio::time::timeout;
use zbus::{
    Address, Connection,
    address::Transport,
    connection::Builder,
    fdo::{DBusProxy, PropertiesProxy},
    names::InterfaceName,
    proxy,
    zvariant::OwnedFd,
};

const NAME: &str = "org.freedesktop.login1";
const INTERFACE: &str = "org.freedesktop.login1.Manager";

/// Makes the machine wait for us before it sleeps.
pub(super) const DELAY: Mode = Mode {
    name: "delay",
    why: "Keys are forgotten before the machine sleeps",
};

/// Keeps the machine awake.
pub(super) const BLOCK: Mode = Mode {
    name: "block",
    why: "A program has a secret in hand",
};

/// An answer comes by then.
const ANSWER: Duration = Duration::from_secs(2);

/// A kind of inhibitor, and what people are told of it.
#[derive(Clone, Copy)]
pub(super) struct Mode {
    name: &'static str,
    why: &'static str,
}

/// Holds as long as it lives.
pub(super) struct Inhibitor {
    _held: OwnedFd,
}

#[proxy(
    interface = "org.freedesktop.login1.Manager",
    default_service = "org.freedesktop.login1",
    default_path = "/org/freedesktop/login1",
    gen_blocking = false
)]
trait Manager {
    fn inhibit(&self, what: &str, who: &str, why: &str, mode: &str) -> zbus::Result<OwnedFd>;

    #[zbus(signal)]
    fn prepare_for_sleep(&self, start: bool) -> zbus::Result<()>;
}

/// A connection to logind.
pub(super) struct Logind {
    manager: ManagerProxy<'static>,
    /// Whether the machine will sleep (true) or is awake again.
    pub(super) told: Pin<Box<dyn Stream<Item = Result<bool, Lost>> + Send>>,
}

impl Logind {
    /// Connects, and hears everything from then on.
    pub(super) async fn connect() -> Result<Self, Lost> {
        timeout(ANSWER, Self::open())
            .await
            .map_err(|_| Lost::Silent)?
    }

    async fn open() -> Result<Self, Lost> {
        let connection = Builder::address(address()?)?
            .method_timeout(ANSWER)
            .build()
            .await?;
        let manager = ManagerProxy::new(&connection).await?;
        let signals = manager.receive_prepare_for_sleep().await?;
        let signals = signals.map(|signal| Ok(signal.args()?.start));
        let bus = DBusProxy::new(&connection).await?;
        // logind that starts again has forgotten what we hold of it.
        let owners = bus
            .receive_name_owner_changed_with_args(&[(0, NAME)])
            .await?
            .map(|_| Err(Lost::Restarted));
        let now = futures_util::stream::iter(is_preparing(&connection).await?.then_some(Ok(true)));
        Ok(Self {
            manager,
            told: Box::pin(now.chain(select(signals, owners))),
        })
    }

    /// Takes an inhibitor of sleep.
    pub(super) fn inhibit(
        &self,
        mode: Mode,
    ) -> impl Future<Output = Result<Inhibitor, Lost>> + use<> {
        let manager = self.manager.clone();
        async move {
            let asked = manager.inhibit("sleep", "keycached", mode.why, mode.name);
            Ok(Inhibitor {
                _held: asked.await?,
            })
        }
    }
}

/// Whether it was announced before we listened.
async fn is_preparing(connection: &Connection) -> Result<bool, Lost> {
    let properties = PropertiesProxy::new(connection, NAME, "/org/freedesktop/login1").await?;
    let interface = InterfaceName::from_static_str(INTERFACE).map_err(zbus::Error::from)?;
    let preparing = properties
        .get(interface, "PreparingForSleep")
        .await
        .map_err(zbus::Error::from)?;
    Ok(bool::try_from(preparing).unwrap_or(false))
}

/// Where the system bus is.
fn address() -> Result<Address, Lost> {
    let address = Address::system()?;
    match address.transport() {
        Transport::Unix(_) => Ok(address),
        _ => Err(Lost::NotLocal),
    }
}

/// Nobody tells us of sleep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lost {
    /// There is no bus, or no logind on it, or it refuses.
    Refused(String),
    /// The bus has gone.
    Bus,
    /// logind has gone, or another has taken its place.
    Restarted,
    /// No answer came in time.
    Silent,
    /// The bus is not on a Unix socket.
    NotLocal,
}

impl From<zbus::Error> for Lost {
    fn from(error: zbus::Error) -> Self {
        Self::Refused(error.to_string())
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "no logind: {why}"),
            Self::Bus => f.write_str("the system bus has gone"),
            Self::Restarted => f.write_str("logind has gone or was started again"),
            Self::Silent => f.write_str("the system bus does not answer"),
            Self::NotLocal => {
                f.write_str("DBUS_SYSTEM_BUS_ADDRESS must be a unix: address to be used")
            }
        }
    }
}
