DROP TABLE replicas;
DROP TABLE leases;
