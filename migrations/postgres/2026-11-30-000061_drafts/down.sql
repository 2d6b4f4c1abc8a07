DROP TABLE draft_states;
DROP TABLE draft_rejections;
