DROP INDEX approval_rounds_remind_at;
ALTER TABLE approval_rounds DROP COLUMN remind_at;
