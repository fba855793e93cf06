//! Asking a program that may not be there, or may be wedged.

use tokio::time::timeout;

use super::ANSWER;
use crate::client::{ClientError, Origin};
use crate::reason::Reason;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Silence {
    /// Nobody accepts connections there.
    Nobody,
    /// A connection was accepted, and nothing said in time.
    Late,
    /// It was refused, or something else answers there.
    Other(ClientError),
}

/// Asks, and once more where the connection broke: a program that is just ending
/// takes its connections with it.
pub(super) async fn ask<T>(call: impl AsyncFn() -> Result<T, ClientError>) -> Result<T, Silence> {
    match once(&call).await {
        Err(Silence::Other(error)) if is_broken(&error) => once(&call).await,
        answer => answer,
    }
}

async fn once<T>(call: &impl AsyncFn() -> Result<T, ClientError>) -> Result<T, Silence> {
    match timeout(ANSWER, call()).await {
        Err(_) => Err(Silence::Late),
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if error.origin == Origin::Unreachable => Err(Silence::Nobody),
        Ok(Err(error)) if error.reason == Some(Reason::DeadlineExceeded) => Err(Silence::Late),
        Ok(Err(error)) => Err(Silence::Other(error)),
    }
}

fn is_broken(error: &ClientError) -> bool {
    error.origin == Origin::Connection && error.reason.is_none()
}
