CREATE TABLE pools (
	id VARCHAR(200) NOT NULL,
	license_id VARCHAR(128) NOT NULL,
	feature VARCHAR(64) NOT NULL,
	capacity BIGINT NOT NULL,
	heartbeat_interval BIGINT NOT NULL,
	lost_after BIGINT NOT NULL,
	suspect_after BIGINT,
	linger BIGINT NOT NULL,
	resume_window BIGINT NOT NULL,
	count_by VARCHAR(16) NOT NULL,
	when_full VARCHAR(32) NOT NULL,
	idle_after BIGINT,
	max_lease BIGINT,
	status VARCHAR(16) NOT NULL,
	valid_from BIGINT,
	valid_until BIGINT,
	fence BIGINT DEFAULT 0 NOT NULL,
	PRIMARY KEY (id)
);

CREATE TABLE leases (
	id VARCHAR(128) NOT NULL,
	pool_id VARCHAR(200) NOT NULL,
	user_id VARCHAR(256) NOT NULL,
	client_id VARCHAR(256) NOT NULL,
	fence BIGINT NOT NULL,
	acquired_at BIGINT NOT NULL,
	last_beat_at BIGINT NOT NULL,
	suspect_at BIGINT NOT NULL,
	expires_at BIGINT NOT NULL,
	origin VARCHAR(16) NOT NULL,
	session_id VARCHAR(128),
	idle_since BIGINT,
	device TEXT,
	ended_at BIGINT,
	end_reason VARCHAR(32),
	graced_at BIGINT,
	lapsed BOOLEAN DEFAULT 0 NOT NULL,
	PRIMARY KEY (id),
	CONSTRAINT leases_holder UNIQUE (pool_id, client_id, user_id)
);

CREATE INDEX leases_pool ON leases (pool_id, ended_at) WHERE ended_at IS NULL;

CREATE INDEX leases_session ON leases (session_id);

CREATE INDEX leases_user_id ON leases (user_id);

CREATE TABLE sessions (
	id VARCHAR(128) NOT NULL,
	token_hash BLOB NOT NULL,
	previous_hash BLOB,
	previous_until BIGINT,
	user_id VARCHAR(256),
	data TEXT NOT NULL,
	revision BIGINT NOT NULL,
	created_at BIGINT NOT NULL,
	authenticated_at BIGINT NOT NULL,
	last_used_at BIGINT NOT NULL,
	idle_timeout BIGINT NOT NULL,
	idle_at BIGINT NOT NULL,
	expires_at BIGINT NOT NULL,
	device TEXT,
	level INTEGER NOT NULL,
	impersonator VARCHAR(256),
	ended_at BIGINT,
	ended_by VARCHAR(256),
	end_reason VARCHAR(256),
	PRIMARY KEY (id),
	CONSTRAINT sessions_token UNIQUE (token_hash)
);

CREATE INDEX sessions_user ON sessions (user_id, created_at);

CREATE INDEX sessions_previous ON sessions (previous_hash) WHERE previous_hash IS NOT NULL;

CREATE TABLE session_users (
	user_id VARCHAR(256) NOT NULL,
	cut_at BIGINT,
	cut_by VARCHAR(256),
	cut_reason VARCHAR(256),
	PRIMARY KEY (user_id)
);

CREATE INDEX session_users_cut ON session_users (cut_at);

CREATE TABLE events (
	id BIGINT NOT NULL,
	at BIGINT NOT NULL,
	kind VARCHAR(64) NOT NULL,
	pool_id VARCHAR(200),
	subject VARCHAR(256),
	user_id VARCHAR(256),
	client_id VARCHAR(256),
	actor VARCHAR(256),
	data TEXT NOT NULL,
	PRIMARY KEY (id)
);

CREATE INDEX events_pool ON events (pool_id, id);

CREATE INDEX events_user ON events (user_id, id);

CREATE TABLE marks (
	name VARCHAR(32) NOT NULL,
	value BIGINT,
	PRIMARY KEY (name)
);

CREATE TABLE requests (
	digest BLOB NOT NULL,
	fingerprint BLOB NOT NULL,
	note VARCHAR(128) NOT NULL,
	answer TEXT NOT NULL,
	at BIGINT NOT NULL,
	PRIMARY KEY (digest)
);

CREATE INDEX requests_at ON requests (at);

CREATE TABLE licenses (
	id VARCHAR(128) NOT NULL,
	name TEXT NOT NULL,
	status VARCHAR(16) NOT NULL,
	valid_from BIGINT,
	valid_until BIGINT,
	created_at BIGINT NOT NULL,
	key_hash BLOB NOT NULL,
	PRIMARY KEY (id),
	CONSTRAINT licenses_key UNIQUE (key_hash)
);

CREATE TABLE features (
	license_id VARCHAR(128) NOT NULL,
	feature VARCHAR(64) NOT NULL,
	policy TEXT NOT NULL,
	CONSTRAINT features_pkey PRIMARY KEY (license_id, feature)
);

CREATE TABLE api_keys (
	id VARCHAR(128) NOT NULL,
	name TEXT NOT NULL,
	role VARCHAR(16) NOT NULL,
	created_at BIGINT NOT NULL,
	expires_at BIGINT,
	revoked_at BIGINT,
	key_hash BLOB NOT NULL,
	PRIMARY KEY (id),
	CONSTRAINT api_keys_key UNIQUE (key_hash)
);

CREATE TABLE audits (
	id BIGINT NOT NULL,
	at BIGINT NOT NULL,
	actor VARCHAR(256) NOT NULL,
	action VARCHAR(64) NOT NULL,
	subject VARCHAR(256) NOT NULL,
	data TEXT NOT NULL,
	PRIMARY KEY (id)
);

CREATE TABLE sweeps (
	id BIGINT NOT NULL,
	started_at BIGINT NOT NULL,
	took BIGINT NOT NULL,
	actor VARCHAR(256) NOT NULL,
	leases_expired BIGINT NOT NULL,
	leases_removed BIGINT NOT NULL,
	sessions_cut BIGINT DEFAULT '0' NOT NULL,
	sessions_removed BIGINT NOT NULL,
	events_removed BIGINT NOT NULL,
	error TEXT,
	PRIMARY KEY (id)
);

CREATE TABLE webhooks (
	id VARCHAR(128) NOT NULL,
	url TEXT NOT NULL,
	description TEXT NOT NULL,
	kinds TEXT NOT NULL,
	secrets TEXT NOT NULL,
	enabled BOOLEAN NOT NULL,
	disabled_because VARCHAR(256),
	created_at BIGINT NOT NULL,
	position BIGINT NOT NULL,
	last_seq BIGINT NOT NULL,
	hold_until BIGINT NOT NULL,
	claimed_by VARCHAR(64),
	claimed_until BIGINT NOT NULL,
	PRIMARY KEY (id)
);

CREATE TABLE webhook_deliveries (
	webhook_id VARCHAR(128) NOT NULL,
	seq BIGINT NOT NULL,
	kind VARCHAR(64) NOT NULL,
	event_id BIGINT,
	event_at BIGINT NOT NULL,
	body TEXT NOT NULL,
	state VARCHAR(16) NOT NULL,
	attempts INTEGER NOT NULL,
	next_at BIGINT NOT NULL,
	last_at BIGINT,
	last_status INTEGER,
	last_error TEXT,
	CONSTRAINT webhook_deliveries_pkey PRIMARY KEY (webhook_id, seq)
);

CREATE INDEX webhook_deliveries_state ON webhook_deliveries (state, webhook_id, seq);

CREATE TABLE instances (
	id VARCHAR(64) NOT NULL,
	host VARCHAR(256) NOT NULL,
	pid BIGINT NOT NULL,
	version VARCHAR(64) NOT NULL,
	fingerprints TEXT NOT NULL,
	started_at BIGINT NOT NULL,
	seen_at BIGINT NOT NULL,
	stopped_at BIGINT,
	PRIMARY KEY (id)
);

CREATE INDEX instances_seen ON instances (seen_at);

CREATE TABLE sojourn_schema (version_num VARCHAR(32) NOT NULL PRIMARY KEY);

INSERT INTO sojourn_schema VALUES ('0005');

INSERT INTO marks (name, value) VALUES ('events', 0), ('audits', 0), ('sweeps', 0), ('pulse', NULL);
