-- The newest version of the policy before the rejection was sent first; null if it was not sent yet.
ALTER TABLE draft_rejections ADD COLUMN sent_version BIGINT
    CONSTRAINT draft_rejections_sent_version_range CHECK (sent_version >= 0);

-- The version of the policy without the rule that a rejection has removed, since it reached the gateway after the rule was
-- approved there.
ALTER TABLE approval_rounds ADD COLUMN removed_version BIGINT
    CONSTRAINT approval_rounds_removed_version_range CHECK (removed_version >= 1);
