//! The calls of `episoded.admin.v1.AdminService`, and of gRPC health.

use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::{Client, ClientError, Stream};
use crate::proto::admin as pb;
use crate::proto::admin::admin_service_client::AdminServiceClient;

impl Client {
    /// What is running and what it holds.
    pub async fn server_info(&self) -> Result<pb::GetServerInfoResponse, ClientError> {
        let mut service = AdminServiceClient::new(self.channel.clone());
        let request = self.unary(pb::GetServerInfoRequest {});
        self.answer(service.get_server_info(request).await)
    }

    /// A copy of the registry file, in chunks.
    pub async fn backup(&self) -> Result<Stream<pb::BackupResponse>, ClientError> {
        let mut service = AdminServiceClient::new(self.channel.clone());
        self.opened(service.backup(self.open(pb::BackupRequest {})))
            .await
    }

    /// Drains and stops the daemon; answered before the drain begins.
    pub async fn shutdown(&self) -> Result<(), ClientError> {
        let mut service = AdminServiceClient::new(self.channel.clone());
        let request = self.unary(pb::ShutdownRequest {});
        self.answer(service.shutdown(request).await).map(|_| ())
    }

    /// Whether the daemon as a whole serves.
    pub async fn is_serving(&self) -> Result<bool, ClientError> {
        let mut service = HealthClient::new(self.channel.clone());
        let request = self.unary(HealthCheckRequest::default());
        let answer = self.answer(service.check(request).await)?;
        Ok(answer.status() == ServingStatus::Serving)
    }
}
