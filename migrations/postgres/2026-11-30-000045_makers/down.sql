ALTER TABLE service_principals DROP COLUMN rotated_by;
ALTER TABLE service_principals DROP COLUMN maker;
ALTER TABLE group_members DROP COLUMN joined_at;
ALTER TABLE sandbox_meta DROP COLUMN owner;
