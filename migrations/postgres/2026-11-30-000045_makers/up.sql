-- The principal that created the sandbox through Shoreguard; null if it is not known. It never changes.
ALTER TABLE sandbox_meta ADD COLUMN owner TEXT
    CONSTRAINT sandbox_meta_owner_length CHECK (length(owner) BETWEEN 1 AND 300);

-- When the user joined the group; null for members from before this column existed.
ALTER TABLE group_members ADD COLUMN joined_at TIMESTAMP;

-- The principals that created the service principal and last rotated its key; null if not known. Not foreign keys:
-- deleting a user must not make the maker unknown.
ALTER TABLE service_principals ADD COLUMN maker TEXT
    CONSTRAINT service_principals_maker_length CHECK (length(maker) BETWEEN 1 AND 300);
ALTER TABLE service_principals ADD COLUMN rotated_by TEXT
    CONSTRAINT service_principals_rotated_by_length CHECK (length(rotated_by) BETWEEN 1 AND 300);
