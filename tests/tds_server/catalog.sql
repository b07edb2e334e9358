-- What T-SQL has and PostgreSQL lacks: functions, operators, conversions, and the views that drivers and SQLAlchemy
-- read.
CREATE SCHEMA dbo;
CREATE SCHEMA sys;

-- Conversions that T-SQL makes by itself.
UPDATE pg_cast SET castcontext = 'i' WHERE castsource IN (20, 23) AND casttarget = 16;
CREATE FUNCTION dbo.to_bit(bigint) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 <> 0';
CREATE FUNCTION dbo.to_bit(smallint) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 <> 0';
CREATE CAST (bigint AS boolean) WITH FUNCTION dbo.to_bit(bigint) AS IMPLICIT;
CREATE CAST (smallint AS boolean) WITH FUNCTION dbo.to_bit(smallint) AS IMPLICIT;
UPDATE pg_cast SET castcontext = 'a' WHERE castsource = 16 AND casttarget = 23;
CREATE CAST (text AS bigint) WITH INOUT AS ASSIGNMENT;
CREATE CAST (text AS integer) WITH INOUT AS ASSIGNMENT;
CREATE CAST (text AS smallint) WITH INOUT AS ASSIGNMENT;
CREATE CAST (text AS boolean) WITH INOUT AS ASSIGNMENT;
CREATE CAST (text AS double precision) WITH INOUT AS ASSIGNMENT;
CREATE CAST (text AS numeric) WITH INOUT AS ASSIGNMENT;
CREATE CAST (text AS uuid) WITH INOUT AS ASSIGNMENT;
CREATE CAST (text AS timestamp) WITH INOUT AS ASSIGNMENT;
CREATE CAST (text AS timestamptz) WITH INOUT AS ASSIGNMENT;
CREATE CAST (text AS date) WITH INOUT AS ASSIGNMENT;
CREATE CAST (text AS time) WITH INOUT AS ASSIGNMENT;
CREATE CAST (text AS bytea) WITH INOUT AS ASSIGNMENT;

-- A VARBINARY read as VARCHAR: byte by byte, one character each.
CREATE FUNCTION dbo.as_varchar(bytea) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT convert_from($1, 'LATIN1') $$;
CREATE CAST (bytea AS text) WITH FUNCTION dbo.as_varchar(bytea);

CREATE OPERATOR public.+ (LEFTARG = text, RIGHTARG = text, FUNCTION = textcat);

-- Clocks: one value for the whole statement, as on SQL Server.
CREATE FUNCTION dbo.sysutcdatetime() RETURNS timestamp LANGUAGE sql STABLE AS
    $$ SELECT statement_timestamp() AT TIME ZONE 'UTC' $$;
CREATE FUNCTION dbo.getutcdate() RETURNS timestamp LANGUAGE sql STABLE AS
    $$ SELECT (statement_timestamp() AT TIME ZONE 'UTC')::timestamp(3) $$;
CREATE FUNCTION dbo.getdate() RETURNS timestamp LANGUAGE sql STABLE AS
    $$ SELECT (statement_timestamp() AT TIME ZONE 'UTC')::timestamp(3) $$;
CREATE FUNCTION dbo.sysdatetime() RETURNS timestamp LANGUAGE sql STABLE AS
    $$ SELECT statement_timestamp() AT TIME ZONE 'UTC' $$;
CREATE FUNCTION dbo.sysdatetimeoffset() RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT statement_timestamp() $$;

CREATE FUNCTION dbo.dateadd(unit text, amount numeric, moment timestamp) RETURNS timestamp LANGUAGE sql IMMUTABLE AS $$
    SELECT moment + trunc(amount)::double precision * CASE unit WHEN 'quarter'
        THEN interval '3 months' ELSE ('1 ' || unit)::interval END
$$;
CREATE FUNCTION dbo.dateadd(unit text, amount double precision, moment timestamp) RETURNS timestamp
LANGUAGE sql IMMUTABLE AS $$
    SELECT dbo.dateadd(unit, amount::numeric, moment)
$$;
CREATE FUNCTION dbo.dateadd(unit text, amount bigint, moment timestamp) RETURNS timestamp LANGUAGE sql IMMUTABLE AS $$
    SELECT moment + amount::double precision * CASE unit WHEN 'quarter'
        THEN interval '3 months' ELSE ('1 ' || unit)::interval END
$$;

-- The number of boundaries of the unit between two moments.
CREATE FUNCTION dbo.datediff_big(unit text, before timestamp, after timestamp) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE unit
        WHEN 'year' THEN extract(year FROM after)::bigint - extract(year FROM before)::bigint
        WHEN 'month' THEN (extract(year FROM after)::bigint - extract(year FROM before)::bigint) * 12
            + extract(month FROM after)::bigint - extract(month FROM before)::bigint
        WHEN 'day' THEN after::date - before::date
        WHEN 'hour' THEN (extract(epoch FROM date_trunc('hour', after) - date_trunc('hour', before)) / 3600)::bigint
        WHEN 'minute' THEN (extract(epoch FROM date_trunc('minute', after) - date_trunc('minute', before)) / 60)::bigint
        WHEN 'second' THEN extract(epoch FROM date_trunc('second', after) - date_trunc('second', before))::bigint
        WHEN 'millisecond' THEN
            (extract(epoch FROM date_trunc('millisecond', after) - date_trunc('millisecond', before)) * 1000)::bigint
        WHEN 'microsecond' THEN (extract(epoch FROM after - before) * 1000000)::bigint
    END
$$;
CREATE FUNCTION dbo.datediff(unit text, before timestamp, after timestamp) RETURNS integer LANGUAGE sql IMMUTABLE AS
    $$ SELECT dbo.datediff_big(unit, before, after)::integer $$;
CREATE FUNCTION dbo.datepart(unit text, moment timestamp) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE unit
        WHEN 'weekday' THEN extract(dow FROM moment)::integer + 1
        WHEN 'dw' THEN extract(dow FROM moment)::integer + 1
        WHEN 'dayofyear' THEN extract(doy FROM moment)::integer
        WHEN 'millisecond' THEN extract(millisecond FROM moment)::integer % 1000
        WHEN 'microsecond' THEN extract(microsecond FROM moment)::integer % 1000000
        ELSE floor(extract(epoch FROM interval '0') + date_part(unit, moment))::integer
    END
$$;

-- Texts.
CREATE FUNCTION dbo.len(value text) RETURNS integer LANGUAGE sql IMMUTABLE AS $$ SELECT length(rtrim(value, ' ')) $$;
CREATE FUNCTION dbo.datalength(value text) RETURNS bigint LANGUAGE sql IMMUTABLE AS
    $$ SELECT 2::bigint * length(value) $$;
CREATE FUNCTION dbo.datalength(value bytea) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT length(value)::bigint $$;
-- U+E000 stands for half of a character, which PostgreSQL does not store.
CREATE FUNCTION dbo.nchar(code integer) RETURNS text LANGUAGE sql IMMUTABLE AS
    $$ SELECT chr(CASE WHEN code BETWEEN 55296 AND 57343 THEN 57344 ELSE code END) $$;
-- A pattern with ranges in brackets, without other signs of regular expressions.
CREATE FUNCTION dbo.is_like(value text, pattern text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
    $$ SELECT value ~ ('^' || replace(pattern, '%', '.*') || '$') $$;
CREATE FUNCTION dbo.charindex(part text, value text) RETURNS integer LANGUAGE sql IMMUTABLE AS
    $$ SELECT strpos(value, part) $$;
CREATE FUNCTION dbo.replicate(value text, times bigint) RETURNS text LANGUAGE sql IMMUTABLE AS
    $$ SELECT repeat(value, times::integer) $$;
CREATE FUNCTION dbo.quotename(value text) RETURNS text LANGUAGE sql IMMUTABLE AS
    $$ SELECT '[' || replace(value, ']', ']]') || ']' $$;
CREATE FUNCTION dbo.parsename(value text, part integer) RETURNS text LANGUAGE sql IMMUTABLE AS
    $$ SELECT parts[cardinality(parts) - part + 1] FROM string_to_array(value, '.') AS parts $$;
CREATE FUNCTION dbo.utf16(value text) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(string_agg(decode(lpad(to_hex((unit & 255) * 256 + (unit >> 8)), 4, '0'), 'hex'), ''::bytea
        ORDER BY place, part), ''::bytea)
    FROM regexp_split_to_table(value, '') WITH ORDINALITY AS c(letter, place)
    CROSS JOIN LATERAL unnest(CASE WHEN ascii(letter) < 65536 THEN ARRAY[ascii(letter)]
        ELSE ARRAY[55296 + (ascii(letter) - 65536) / 1024, 56320 + (ascii(letter) - 65536) % 1024] END)
        WITH ORDINALITY AS u(unit, part)
    WHERE letter <> ''
$$;
CREATE FUNCTION dbo.newid() RETURNS uuid LANGUAGE sql VOLATILE AS $$ SELECT gen_random_uuid() $$;

-- Rights: the tests log in as the owner of the database.
CREATE FUNCTION dbo.is_rolemember(role text) RETURNS integer LANGUAGE sql IMMUTABLE AS $$ SELECT (role = 'db_owner')::integer $$;

-- JSON.
CREATE FUNCTION dbo.isjson(value text) RETURNS integer LANGUAGE sql IMMUTABLE AS $$ SELECT (value IS JSON)::integer $$;
CREATE FUNCTION dbo.json_value(document text, path text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN jsonb_typeof(found) NOT IN ('object', 'array', 'null') THEN found #>> '{}' END
    FROM jsonb_path_query_first(document::jsonb, path::jsonpath) AS found
$$;
CREATE FUNCTION dbo.json_query(document text, path text DEFAULT '$') RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN jsonb_typeof(found) IN ('object', 'array') THEN found::text END
    FROM jsonb_path_query_first(document::jsonb, path::jsonpath) AS found
$$;
CREATE FUNCTION dbo.openjson(document text, path text DEFAULT '$') RETURNS TABLE (key text, value text, type integer)
LANGUAGE sql IMMUTABLE AS $$
    SELECT item.key, CASE WHEN jsonb_typeof(item.value) <> 'null' THEN item.value #>> '{}' END,
        array_position(ARRAY['null', 'string', 'number', 'boolean', 'array', 'object'], jsonb_typeof(item.value)) - 1
    FROM jsonb_path_query_first(document::jsonb, path::jsonpath) AS root
    CROSS JOIN LATERAL (
        SELECT (position - 1)::text AS key, element AS value
        FROM jsonb_array_elements(CASE jsonb_typeof(root) WHEN 'array' THEN root END) WITH ORDINALITY 
            AS e(element, position)
        UNION ALL SELECT o.key, o.value FROM jsonb_each(CASE jsonb_typeof(root) WHEN 'object' THEN root END) AS o
    ) AS item
$$;

-- Sums of integers stay integers.
CREATE FUNCTION dbo.int_average(total bigint[], value bigint) RETURNS bigint[] LANGUAGE sql IMMUTABLE STRICT AS
    $$ SELECT ARRAY[total[1] + value, total[2] + 1] $$;
CREATE FUNCTION dbo.int_average_end(total bigint[]) RETURNS bigint LANGUAGE sql IMMUTABLE AS
    $$ SELECT total[1] / nullif(total[2], 0) $$;
CREATE FUNCTION dbo.int_average_end4(total bigint[]) RETURNS integer LANGUAGE sql IMMUTABLE AS
    $$ SELECT (total[1] / nullif(total[2], 0))::integer $$;
CREATE FUNCTION dbo.int_average(total bigint[], value integer) RETURNS bigint[] LANGUAGE sql IMMUTABLE STRICT AS
    $$ SELECT ARRAY[total[1] + value, total[2] + 1] $$;
CREATE AGGREGATE dbo.avg(bigint) (SFUNC = dbo.int_average, STYPE = bigint[], FINALFUNC = dbo.int_average_end,
    INITCOND = '{0,0}');
CREATE AGGREGATE dbo.avg(integer) (SFUNC = dbo.int_average, STYPE = bigint[], FINALFUNC = dbo.int_average_end4,
    INITCOND = '{0,0}');
CREATE AGGREGATE dbo.sum(bigint) (SFUNC = int8pl, STYPE = bigint);
CREATE AGGREGATE dbo.sum(integer) (SFUNC = int4pl, STYPE = integer);

-- The session and the server.
CREATE FUNCTION dbo.scope_identity() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    RETURN lastval();
EXCEPTION WHEN object_not_in_prerequisite_state THEN
    RETURN NULL;
END $$;
CREATE FUNCTION dbo.serverproperty(property text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE lower(property)
        WHEN 'productversion' THEN '16.0.4165.4' WHEN 'productmajorversion' THEN '16' WHEN 'engineedition' THEN '3'
        WHEN 'edition' THEN 'Developer Edition (64-bit)' WHEN 'collation' THEN 'Latin1_General_BIN2'
    END
$$;
CREATE FUNCTION dbo.schema_name() RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'dbo' $$;
CREATE FUNCTION dbo.schema_name(id integer) RETURNS text LANGUAGE sql STABLE AS
    $$ SELECT nspname::text FROM pg_namespace WHERE oid = id $$;
CREATE FUNCTION dbo.schema_id(name text) RETURNS integer LANGUAGE sql STABLE AS
    $$ SELECT oid::integer FROM pg_namespace WHERE nspname = lower(name) $$;
CREATE FUNCTION dbo.database_principal_id(name text) RETURNS integer LANGUAGE sql IMMUTABLE AS
    $$ SELECT NULL::integer $$;
CREATE FUNCTION dbo.db_name() RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_database()::text $$;
CREATE FUNCTION dbo.user_name() RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'dbo' $$;
CREATE FUNCTION dbo.suser_sname() RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'sa' $$;
CREATE FUNCTION dbo.original_login() RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'sa' $$;
CREATE FUNCTION dbo.host_name() RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'testserver' $$;
CREATE FUNCTION dbo.app_name() RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_setting('application_name') $$;

CREATE TABLE sys.database_options (is_read_committed_snapshot_on boolean NOT NULL);
INSERT INTO sys.database_options VALUES (true);
CREATE VIEW sys.databases AS
    SELECT d.datname::text AS name, d.oid::integer AS database_id, o.is_read_committed_snapshot_on,
        'DISABLED'::text AS delayed_durability_desc, false AS is_auto_close_on, 160 AS compatibility_level,
        false AS is_parameterization_forced
    FROM pg_database AS d CROSS JOIN sys.database_options AS o WHERE d.datname = current_database();
CREATE FUNCTION dbo.db_id() RETURNS integer LANGUAGE sql STABLE AS $$ SELECT database_id FROM sys.databases $$;

-- Stored procedures are texts, which the server runs by itself.
CREATE TABLE sys.procedure_text (name text PRIMARY KEY,
    object_id integer GENERATED BY DEFAULT AS IDENTITY (START WITH 1000000000), definition text NOT NULL);
CREATE VIEW sys.schemas AS SELECT nspname::text AS name, oid::integer AS schema_id, 1 AS principal_id FROM pg_namespace;
CREATE VIEW sys.procedures AS
    SELECT split_part(p.name, '.', 2) AS name, p.object_id, n.oid::integer AS schema_id, 'P'::text AS type
    FROM sys.procedure_text AS p JOIN pg_namespace AS n ON n.nspname = split_part(p.name, '.', 1);
CREATE VIEW sys.sql_modules AS
    SELECT object_id, definition FROM sys.procedure_text
    UNION ALL SELECT oid::integer, pg_get_viewdef(oid) FROM pg_class WHERE relkind = 'v';
CREATE VIEW sys.objects AS
    SELECT relname::text AS name, oid::integer AS object_id, relnamespace::integer AS schema_id, 0 AS parent_object_id,
        CASE relkind WHEN 'v' THEN 'V' ELSE 'U' END AS type, false AS is_ms_shipped
    FROM pg_class WHERE relkind IN ('r', 'v')
    UNION ALL SELECT name, object_id, schema_id, 0, 'P', false FROM sys.procedures
    UNION ALL SELECT conname::text, oid::integer, connamespace::integer, conrelid::integer,
        CASE contype WHEN 'p' THEN 'PK' WHEN 'u' THEN 'UQ' WHEN 'f' THEN 'F' ELSE 'C' END, false
    FROM pg_constraint WHERE contype IN ('p', 'u', 'f', 'c');
CREATE VIEW sys.tables AS SELECT name, object_id, schema_id, type, is_ms_shipped FROM sys.objects WHERE type = 'U';
CREATE VIEW sys.views AS SELECT name, object_id, schema_id, type, is_ms_shipped FROM sys.objects WHERE type = 'V';
CREATE FUNCTION dbo.object_id(name text, kind text DEFAULT NULL) RETURNS integer LANGUAGE sql STABLE AS $$
    SELECT o.object_id FROM sys.objects AS o JOIN sys.schemas AS s ON s.schema_id = o.schema_id
    CROSS JOIN parse_ident(replace(replace(lower(object_id.name), '[', ''), ']', '')) AS part
    WHERE o.name = part[cardinality(part)] AND (kind IS NULL OR o.type = upper(kind))
        AND s.name = CASE WHEN cardinality(part) > 1 THEN part[cardinality(part) - 1] ELSE 'dbo' END
$$;
CREATE FUNCTION dbo.object_name(id integer) RETURNS text LANGUAGE sql STABLE AS
    $$ SELECT name FROM sys.objects WHERE object_id = id $$;
CREATE FUNCTION dbo.object_schema_name(id integer) RETURNS text LANGUAGE sql STABLE AS
    $$ SELECT s.name FROM sys.objects AS o JOIN sys.schemas AS s ON s.schema_id = o.schema_id WHERE o.object_id = id $$;
CREATE FUNCTION dbo.object_definition(id integer) RETURNS text LANGUAGE sql STABLE AS
    $$ SELECT definition FROM sys.sql_modules WHERE object_id = id $$;
CREATE VIEW sys.system_views AS SELECT 'dm_exec_sessions'::text AS name;
CREATE VIEW sys.dm_exec_sessions AS SELECT pg_backend_pid() AS session_id;

-- What SQLAlchemy reads of tables. Column types carry the number of PostgreSQL's type.
CREATE TABLE sys.types (user_type_id integer, name text, system_type_id integer, schema_id integer,
    is_user_defined boolean DEFAULT false);
INSERT INTO sys.types (user_type_id, name) VALUES
    (16, 'bit'), (21, 'smallint'), (23, 'int'), (20, 'bigint'), (700, 'real'), (701, 'float'), (1700, 'decimal'),
    (1043, 'nvarchar'),
    (25, 'nvarchar'), (1042, 'nchar'), (17, 'varbinary'), (2950, 'uniqueidentifier'), (1082, 'date'), (1083, 'time'),
    (1114, 'datetime2'), (1184, 'datetimeoffset'), (19, 'sysname');
CREATE VIEW sys.columns AS
    SELECT attrelid::integer AS object_id, attname::text AS name, attnum::integer AS column_id,
        atttypid::integer AS user_type_id,
        atttypid::integer AS system_type_id, NOT attnotnull AS is_nullable, attidentity <> '' AS is_identity,
            false AS is_computed,
        CASE WHEN atttypid IN (25, 17) THEN -1 WHEN atttypid IN (1042, 1043)
            THEN 2 * (atttypmod - 4) ELSE attlen END::integer AS max_length,
        CASE atttypid WHEN 1700 THEN (atttypmod - 4) >> 16 WHEN 701 THEN 53 WHEN 700 THEN 24 ELSE 0 END AS precision,
        CASE WHEN atttypid = 1700 THEN (atttypmod - 4) & 65535 WHEN atttypid IN (1083, 1114, 1184) THEN
            CASE atttypmod WHEN -1 THEN 7 ELSE atttypmod END
            ELSE 0 END AS scale,
        CASE WHEN atttypid IN (25, 1042, 1043) THEN 'Latin1_General_BIN2' END AS collation_name,
        coalesce(d.oid::integer, 0) AS default_object_id
    FROM pg_attribute LEFT JOIN pg_attrdef AS d ON d.adrelid = attrelid AND d.adnum = attnum
    WHERE attnum > 0 AND NOT attisdropped;
CREATE VIEW sys.default_constraints AS
    SELECT oid::integer AS object_id, ('DF_' || adrelid || '_' || adnum) AS name, 0 AS schema_id,
        adrelid::integer AS parent_object_id,
        adnum::integer AS parent_column_id, '(' || regexp_replace(pg_get_expr(adbin, adrelid),
            '::[a-z]+( varying| precision| without time zone)?(\(\d+\))?', '', 'g') || ')' AS definition
    FROM pg_attrdef;
CREATE VIEW sys.identity_columns AS
    SELECT object_id, name, column_id, is_identity, 1::numeric AS seed_value, 1::numeric AS increment_value,
        NULL::numeric AS last_value
    FROM sys.columns WHERE is_identity;
CREATE VIEW sys.computed_columns AS
    SELECT object_id, name, column_id, false AS is_computed, false AS is_persisted,
        ''::text AS definition FROM sys.columns WHERE false;
CREATE VIEW sys.extended_properties AS
    SELECT 1 AS class, ''::text AS class_desc, 0 AS major_id, 0 AS minor_id, ''::text AS name,
        ''::text AS value WHERE false;
CREATE VIEW sys.indexes AS
    SELECT i.indrelid::integer AS object_id, i.indexrelid::integer AS index_id, c.relname::text AS name,
        2 - i.indisprimary::integer AS type,
        CASE WHEN i.indisprimary THEN 'CLUSTERED' ELSE 'NONCLUSTERED' END AS type_desc, i.indisunique AS is_unique,
        i.indisprimary AS is_primary_key, k.oid IS NOT NULL AND NOT i.indisprimary AS is_unique_constraint,
        i.indpred IS NOT NULL AS has_filter, false AS is_disabled,
        regexp_replace(pg_get_expr(i.indpred, i.indrelid), '::[a-z]+( varying| precision| without time zone)?', '',
            'g') AS filter_definition
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
        LEFT JOIN pg_constraint AS k ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u');
CREATE VIEW sys.index_columns AS
    SELECT i.indrelid::integer AS object_id, i.indexrelid::integer AS index_id,
        k.position::integer AS index_column_id, k.attnum::integer AS column_id,
        CASE WHEN k.position <= i.indnkeyatts THEN k.position::integer ELSE 0 END AS key_ordinal,
            k.position > i.indnkeyatts AS is_included_column,
        k.position <= i.indnkeyatts AND (i.indoption[k.position - 1] & 1) = 1 AS is_descending_key
    FROM pg_index AS i CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS k(attnum, position);
CREATE VIEW sys.key_constraints AS
    SELECT conname::text AS name, oid::integer AS object_id, connamespace::integer AS schema_id,
        conrelid::integer AS parent_object_id,
        CASE contype WHEN 'p' THEN 'PK' ELSE 'UQ' END AS type, conindid::integer AS unique_index_id
    FROM pg_constraint WHERE contype IN ('p', 'u');
CREATE VIEW sys.check_constraints AS
    SELECT conname::text AS name, oid::integer AS object_id, connamespace::integer AS schema_id,
        conrelid::integer AS parent_object_id,
        pg_get_expr(conbin, conrelid) AS definition
    FROM pg_constraint WHERE contype = 'c';

CREATE FUNCTION dbo.suser_sname(bytea) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT convert_from($1, 'UTF8') $$;
