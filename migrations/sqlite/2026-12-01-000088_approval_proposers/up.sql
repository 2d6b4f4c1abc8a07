-- The principal who has proposed a review. Null for the reviews of rules that agents propose.
ALTER TABLE approval_rounds ADD COLUMN proposer TEXT
    CONSTRAINT approval_rounds_proposer_length CHECK (length(proposer) BETWEEN 1 AND 64);

-- The proposer is the first author.
UPDATE approval_rounds SET proposer = json_extract(authors_json, '$[0]') WHERE action <> 'draft.approve';

-- For the number of reviews that a principal proposes in a day, and of those that have not ended.
DROP INDEX approval_rounds_gateway_id_opened_at;
CREATE INDEX approval_rounds_gateway_id_proposer_opened_at ON approval_rounds (gateway_id, proposer, opened_at)
    WHERE proposer IS NOT NULL;
CREATE INDEX approval_rounds_gateway_id_proposer_closed_at ON approval_rounds (gateway_id, proposer, closed_at)
    WHERE closed_at IS NULL;
