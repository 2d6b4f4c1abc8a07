DROP TABLE draft_editors;
