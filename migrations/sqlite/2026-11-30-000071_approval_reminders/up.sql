-- When voters of an open review are reminded next.
ALTER TABLE approval_rounds ADD COLUMN remind_at TIMESTAMP;

-- Open reviews are reminded of as if they had been opened by this version.
UPDATE approval_rounds
SET remind_at = strftime('%Y-%m-%d %H:%M:%S', opened_at, '+4 hours') || substr(opened_at, 20)
WHERE closed_at IS NULL;

CREATE INDEX approval_rounds_remind_at ON approval_rounds (remind_at) WHERE closed_at IS NULL;
