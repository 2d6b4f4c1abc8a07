-- Lists of the messages of a webhook in one state: few of them can be among many others.
CREATE INDEX webhook_deliveries_webhook_id_status_id ON webhook_deliveries (webhook_id, status, id);
