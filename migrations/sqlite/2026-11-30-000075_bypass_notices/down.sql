DROP TABLE bypass_notices;
