ALTER TABLE approval_rounds DROP COLUMN removed_version;
ALTER TABLE draft_rejections DROP COLUMN sent_version;
