CREATE TABLE pools (
	id VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	license_id VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	feature VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	capacity BIGINT NOT NULL,
	heartbeat_interval BIGINT NOT NULL,
	lost_after BIGINT NOT NULL,
	suspect_after BIGINT,
	linger BIGINT NOT NULL,
	resume_window BIGINT NOT NULL,
	count_by VARCHAR(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	when_full VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	idle_after BIGINT,
	max_lease BIGINT,
	status VARCHAR(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	valid_from BIGINT,
	valid_until BIGINT,
	fence BIGINT NOT NULL DEFAULT 0,
	PRIMARY KEY (id)
)ENGINE=InnoDB CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC;

CREATE TABLE leases (
	id VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	pool_id VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	user_id VARCHAR(256) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	client_id VARCHAR(256) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	fence BIGINT NOT NULL,
	acquired_at BIGINT NOT NULL,
	last_beat_at BIGINT NOT NULL,
	suspect_at BIGINT NOT NULL,
	expires_at BIGINT NOT NULL,
	origin VARCHAR(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	session_id VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin,
	idle_since BIGINT,
	device LONGTEXT,
	ended_at BIGINT,
	end_reason VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin,
	graced_at BIGINT,
	lapsed BOOL NOT NULL DEFAULT false,
	PRIMARY KEY (id),
	CONSTRAINT leases_holder UNIQUE (pool_id, client_id, user_id)
)ENGINE=InnoDB CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC;

CREATE INDEX leases_pool ON leases (pool_id, ended_at);

CREATE INDEX leases_session ON leases (session_id);

CREATE INDEX leases_user_id ON leases (user_id);

CREATE TABLE sessions (
	id VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	token_hash BINARY(32) NOT NULL,
	previous_hash BINARY(32),
	previous_until BIGINT,
	user_id VARCHAR(256) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin,
	data LONGTEXT NOT NULL,
	revision BIGINT NOT NULL,
	created_at BIGINT NOT NULL,
	authenticated_at BIGINT NOT NULL,
	last_used_at BIGINT NOT NULL,
	idle_timeout BIGINT NOT NULL,
	idle_at BIGINT NOT NULL,
	expires_at BIGINT NOT NULL,
	device LONGTEXT,
	level INTEGER NOT NULL,
	impersonator VARCHAR(256) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin,
	ended_at BIGINT,
	ended_by VARCHAR(256) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin,
	end_reason VARCHAR(256) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin,
	PRIMARY KEY (id),
	CONSTRAINT sessions_token UNIQUE (token_hash)
)ENGINE=InnoDB CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC;

CREATE INDEX sessions_user ON sessions (user_id, created_at);

CREATE INDEX sessions_previous ON sessions (previous_hash);

CREATE TABLE session_users (
	user_id VARCHAR(256) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	cut_at BIGINT,
	cut_by VARCHAR(256) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin,
	cut_reason VARCHAR(256) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin,
	PRIMARY KEY (user_id)
)ENGINE=InnoDB CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC;

CREATE INDEX session_users_cut ON session_users (cut_at);

CREATE TABLE events (
	id BIGINT NOT NULL,
	at BIGINT NOT NULL,
	kind VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	pool_id VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin,
	subject VARCHAR(256) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin,
	user_id VARCHAR(256) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin,
	client_id VARCHAR(256) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin,
	actor VARCHAR(256) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin,
	data LONGTEXT NOT NULL,
	PRIMARY KEY (id)
)ENGINE=InnoDB CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC;

CREATE INDEX events_pool ON events (pool_id, id);

CREATE INDEX events_user ON events (user_id, id);

CREATE TABLE marks (
	name VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	value BIGINT,
	PRIMARY KEY (name)
)ENGINE=InnoDB CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC;

CREATE TABLE requests (
	digest BINARY(16) NOT NULL,
	fingerprint BINARY(16) NOT NULL,
	note VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	answer LONGTEXT NOT NULL,
	at BIGINT NOT NULL,
	PRIMARY KEY (digest)
)ENGINE=InnoDB CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC;

CREATE INDEX requests_at ON requests (at);

CREATE TABLE licenses (
	id VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	name TEXT NOT NULL,
	status VARCHAR(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	valid_from BIGINT,
	valid_until BIGINT,
	created_at BIGINT NOT NULL,
	key_hash BINARY(32) NOT NULL,
	PRIMARY KEY (id),
	CONSTRAINT licenses_key UNIQUE (key_hash)
)ENGINE=InnoDB CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC;

CREATE TABLE features (
	license_id VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	feature VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	policy LONGTEXT NOT NULL,
	CONSTRAINT features_pkey PRIMARY KEY (license_id, feature)
)ENGINE=InnoDB CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC;

CREATE TABLE api_keys (
	id VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	name TEXT NOT NULL,
	`role` VARCHAR(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	created_at BIGINT NOT NULL,
	expires_at BIGINT,
	revoked_at BIGINT,
	key_hash BINARY(32) NOT NULL,
	PRIMARY KEY (id),
	CONSTRAINT api_keys_key UNIQUE (key_hash)
)ENGINE=InnoDB CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC;

CREATE TABLE audits (
	id BIGINT NOT NULL,
	at BIGINT NOT NULL,
	actor VARCHAR(256) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	action VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	subject VARCHAR(256) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	data LONGTEXT NOT NULL,
	PRIMARY KEY (id)
)ENGINE=InnoDB CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC;

CREATE TABLE sweeps (
	id BIGINT NOT NULL,
	started_at BIGINT NOT NULL,
	took BIGINT NOT NULL,
	actor VARCHAR(256) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	leases_expired BIGINT NOT NULL,
	leases_removed BIGINT NOT NULL,
	sessions_cut BIGINT NOT NULL DEFAULT '0',
	sessions_removed BIGINT NOT NULL,
	events_removed BIGINT NOT NULL,
	error TEXT,
	PRIMARY KEY (id)
)ENGINE=InnoDB CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC;

CREATE TABLE webhooks (
	id VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	url TEXT NOT NULL,
	description TEXT NOT NULL,
	kinds LONGTEXT NOT NULL,
	secrets LONGTEXT NOT NULL,
	enabled BOOL NOT NULL,
	disabled_because VARCHAR(256) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin,
	created_at BIGINT NOT NULL,
	position BIGINT NOT NULL,
	last_seq BIGINT NOT NULL,
	hold_until BIGINT NOT NULL,
	claimed_by VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin,
	claimed_until BIGINT NOT NULL,
	PRIMARY KEY (id)
)ENGINE=InnoDB CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC;

CREATE TABLE webhook_deliveries (
	webhook_id VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	seq BIGINT NOT NULL,
	kind VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	event_id BIGINT,
	event_at BIGINT NOT NULL,
	body LONGTEXT NOT NULL,
	state VARCHAR(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	attempts INTEGER NOT NULL,
	next_at BIGINT NOT NULL,
	last_at BIGINT,
	last_status INTEGER,
	last_error TEXT,
	CONSTRAINT webhook_deliveries_pkey PRIMARY KEY (webhook_id, seq)
)ENGINE=InnoDB CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC;

CREATE INDEX webhook_deliveries_state ON webhook_deliveries (state, webhook_id, seq);

CREATE TABLE instances (
	id VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	host VARCHAR(256) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	pid BIGINT NOT NULL,
	version VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
	fingerprints LONGTEXT NOT NULL,
	started_at BIGINT NOT NULL,
	seen_at BIGINT NOT NULL,
	stopped_at BIGINT,
	PRIMARY KEY (id)
)ENGINE=InnoDB CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC;

CREATE INDEX instances_seen ON instances (seen_at);

CREATE TABLE sojourn_schema (version_num VARCHAR(32) NOT NULL PRIMARY KEY);

INSERT INTO sojourn_schema VALUES ('0005');

INSERT INTO marks (name, value) VALUES ('events', 0), ('audits', 0), ('sweeps', 0), ('pulse', NULL);
