-- How far each log has been verified by upkeep: below it, every offset has an outcome or holds no record. So that the next run
-- looks only at what is new.
CREATE TABLE verified_offsets (
    topic           text COLLATE "C" NOT NULL,
    partition       integer NOT NULL,
    incarnation     integer NOT NULL,
    verified_offset bigint NOT NULL,
    PRIMARY KEY (topic, partition, incarnation)
);
