//! Commands about the server, gateways, operations, events, the audit log and webhooks.

use super::{Row, row};

const EVENT: &str = "sequence event_time=TIME name gateway actor | payload_json";
const OPERATION: &str = "id type status gateway workspace sandbox progress_percent=% actor create_time~=AGE \
                         | progress_message error_code error_message complete_time";
const AUDIT: &str = "create_time=TIME actor action resource_id=ON gateway outcome client_ip=FROM \
                     | id principal actor_role resource_type method code duration request_id detail_json";

pub(super) const ROWS: &[Row] = &[
    row("AuthService/GetServerInfo", "server info"),
    row("AuthService/Setup", "server setup").takes("email"),
    row("GatewayService/ListGateways", "gateway list").columns(
        "name status version latency last_seen_time~=SEEN labels last_error=NOTE \
         | endpoint scheme auth_mode wire_generation description register_time",
    ),
    row("GatewayService/GetGateway", "gateway get").takes("gateway"),
    row("GatewayService/RegisterGateway", "gateway register")
        .takes("name endpoint")
        .flat("credentials"),
    row("GatewayService/UpdateGateway", "gateway update")
        .takes("gateway")
        .renames("endpoint=address")
        .flat("credentials"),
    row("GatewayService/UnregisterGateway", "gateway unregister")
        .takes("gateway")
        .asks("Unregister gateway `{gateway}` and delete everything that is stored about it?"),
    row("GatewayService/TestGateway", "gateway test").takes("gateway").fails_unless("usable"),
    row("GatewayService/GetGatewayHealth", "gateway health").takes("gateway"),
    row("GatewayService/RotateGatewayCredentials", "gateway rotate-credentials")
        .takes("gateway")
        .flat("credentials"),
    row("GatewayService/WatchGateways", "gateway watch")
        .columns(
            "sequence,gateway.name,gateway.status,gateway.version,gateway.last_error,removed_gateway,present",
        )
        .name("gateway.name"),
    row("GatewayService/DiscoverGateways", "gateway discover")
        .columns("name endpoint outcome reason | domain host port priority weight"),
    row("GatewayService/GetGatewayDiscoveryStatus", "gateway discovery"),
    row("GatewayService/ListGatewaySettings", "gateway settings")
        .takes("SCOPE")
        .columns("key value scope managed_by_gateway=MANAGED | workspace sandbox"),
    row("GatewayService/UpdateGatewaySetting", "gateway set").takes("SCOPE key").flat("value"),
    row("GatewayService/DeleteGatewaySetting", "gateway unset")
        .takes("SCOPE key")
        .target("key")
        .asks("Delete setting `{key}` of gateway `{gateway}`?"),
    row("OperationService/ListOperations", "operation list").columns(OPERATION),
    row("OperationService/GetOperation", "operation get").takes("operation"),
    row("OperationService/WatchOperation", "operation watch")
        .takes("operation")
        .columns(
            "operation.update_time operation.status operation.progress_percent \
             operation.progress_message operation.error_message",
        )
        .name("operation.id"),
    row("OperationService/CancelOperation", "operation cancel")
        .takes("operation")
        .asks("Cancel operation {operation}?"),
    row("EventService/ListEvents", "event list").columns(EVENT),
    row("EventService/ListEventTypes", "event types")
        .columns("name role global_admins_only=GLOBAL description"),
    row("AuditService/ListAuditEntries", "audit list").columns(AUDIT).name("id"),
    row("WebhookService/ListWebhooks", "webhook list").columns(
        "id channel active description event_types gateways failures disabled_reason=NOTE \
         | created_by create_time failing_since_time disable_time",
    ),
    row("WebhookService/GetWebhook", "webhook get").takes("webhook_id"),
    row("WebhookService/CreateWebhook", "webhook create"),
    row("WebhookService/UpdateWebhook", "webhook update").takes("webhook_id"),
    row("WebhookService/TestWebhook", "webhook test").takes("webhook_id"),
    row("WebhookService/RotateWebhookSecret", "webhook rotate-secret")
        .takes("webhook_id")
        .asks("Replace the secret of webhook {webhook_id}?"),
    row("WebhookService/DeleteWebhook", "webhook delete")
        .takes("webhook_id")
        .asks("Delete webhook {webhook_id} with its deliveries?"),
    row("WebhookService/ListWebhookDeliveries", "webhook deliveries").takes("webhook_id").columns(
        "id event_type status attempt last_attempt.response_code=CODE create_time~=AGE \
         | message_id event_sequence last_attempt.error=ERROR next_attempt_time delivered_time",
    ),
    row("WebhookService/RedeliverWebhook", "webhook redeliver").takes("webhook_id"),
];
