//! What a program says: one tracing subscriber, on stderr or to the system's log.
//!
//! Owns the filter and the format of log lines. Only the composition root
//! installs it, once, and changes the filter afterwards (SIGHUP). Refuses a
//! filter with a word that is no level: taken as the name of a module it would
//! silence everything else.

use std::fmt;
use std::io::IsTerminal as _;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer, Registry, fmt as format, reload};

use syslog::Syslog;

pub mod syslog;

/// Which lines are written: `LEVEL` and `module=LEVEL`, separated by commas.
#[derive(Debug, Clone, PartialEq)]
pub struct LogFilter {
    text: String,
    targets: Targets,
}

impl Default for LogFilter {
    fn default() -> Self {
        Self {
            text: "info".to_owned(),
            targets: Targets::new().with_default(LevelFilter::INFO),
        }
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for LogFilter {
    type Err = LogFilterError;

    fn from_str(text: &str) -> Result<Self, LogFilterError> {
        let mut targets = Targets::new();
        for part in text.split(',').map(str::trim) {
            let (target, level) = part.split_once('=').unwrap_or(("", part));
            let level = parse_level(level)?;
            targets = match (part.contains('='), target) {
                (false, _) => targets.with_default(level),
                (true, "") => return Err(LogFilterError),
                (true, target) => targets.with_target(target, level),
            };
        }
        Ok(Self {
            text: text.to_owned(),
            targets,
        })
    }
}

/// Names only: `LevelFilter` itself also takes numbers and the empty string.
fn parse_level(word: &str) -> Result<LevelFilter, LogFilterError> {
    match word {
        "off" => Ok(LevelFilter::OFF),
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        _ => Err(LogFilterError),
    }
}

/// A filter has a part that is neither a level nor `module=LEVEL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogFilterError;

impl fmt::Display for LogFilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a list of off, error, warn, info, debug, trace or module=LEVEL")
    }
}

impl std::error::Error for LogFilterError {}

/// How a line is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The filter of the installed subscriber.
#[derive(Debug)]
pub struct Telemetry {
    filter: Option<reload::Handle<Targets, Registry>>,
}

impl Telemetry {
    /// Installs the subscriber. Where one is installed already, that one stays
    /// and [`Telemetry::set_filter`] changes nothing.
    pub fn install(filter: &LogFilter, format: LogFormat) -> Self {
        Self::install_layer(filter, lines(format))
    }

    /// The same with lines that go to the system's log, which has their time and level.
    pub fn install_syslog(filter: &LogFilter, syslog: Syslog) -> Self {
        let lines = format::layer()
            .with_writer(syslog)
            .with_ansi(false)
            .with_level(false)
            .without_time()
            .log_internal_errors(false);
        Self::install_layer(filter, lines.boxed())
    }

    fn install_layer(filter: &LogFilter, lines: Lines) -> Self {
        let (targets, handle) = reload::Layer::new(filter.targets.clone());
        let subscriber = Registry::default().with(lines.with_filter(targets));
        let installed = tracing::subscriber::set_global_default(subscriber).is_ok();
        Self {
            filter: installed.then_some(handle),
        }
    }

    /// Changes what is written from now on; false if the subscriber is not ours.
    pub fn set_filter(&self, filter: &LogFilter) -> bool {
        self.filter
            .as_ref()
            .is_some_and(|handle| handle.reload(filter.targets.clone()).is_ok())
    }
}

type Lines = Box<dyn Layer<Registry> + Send + Sync>;

/// Errors of stderr are dropped: reporting them would panic on the same stderr.
fn lines(format: LogFormat) -> Lines {
    let stderr = std::io::stderr;
    match format {
        LogFormat::Text => format::layer()
            .with_writer(stderr)
            .with_ansi(stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
            .log_internal_errors(false)
            .boxed(),
        LogFormat::Json => format::layer()
            .json()
            .flatten_event(true)
            .with_writer(stderr)
            .log_internal_errors(false)
            .boxed(),
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::{LogFilter, LogFilterError, LogFormat, Telemetry};

    #[test]
    fn a_filter_names_levels_and_modules() {
        let filter: LogFilter = "warn, episoded=debug".parse().unwrap();
        assert!(filter.targets.would_enable("h2", &Level::WARN));
        assert!(!filter.targets.would_enable("h2", &Level::INFO));
        assert!(filter.targets.would_enable("episoded::grpc", &Level::DEBUG));
        assert_eq!("info".parse(), Ok(LogFilter::default()));
        let off: LogFilter = "off".parse().unwrap();
        assert!(!off.targets.would_enable("episoded", &Level::ERROR));
    }

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for text in [
            "",
            "inof",
            "INFO ",
            "3",
            "episoded",
            "episoded=",
            "=info",
            "info,,warn",
        ] {
            assert_eq!(text.parse::<LogFilter>(), Err(LogFilterError), "{text:?}");
        }
    }

    #[test]
    fn the_second_installation_changes_nothing_and_the_filter_is_reloadable() {
        let quiet: LogFilter = "error".parse().unwrap();
        let first = Telemetry::install(&quiet, LogFormat::Text);
        let second = Telemetry::install(&quiet, LogFormat::Json);
        assert!(!second.set_filter(&quiet));
        // Another test of this process may have been first.
        if first.filter.is_some() {
            assert!(!tracing::enabled!(Level::WARN));
            assert!(first.set_filter(&"warn".parse().unwrap()));
            assert!(tracing::enabled!(Level::WARN));
            assert!(first.set_filter(&quiet));
        }
    }
}
