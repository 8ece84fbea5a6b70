/** A word before a parenthesis, with its schema if it has one, in a statement that statementsOf() returned. */
const call = /(?:("[^"]*"|[a-z_\x80-\uffff][\w$\x80-\uffff]*) ?\. ?)?("[^"]*"|[a-z_\x80-\uffff][\w$\x80-\uffff]*) ?\(/gi

/** After these, the parenthesis is not a call: a list of columns follows the name of a table, or an alias. */
const named = /(?:\b(?:into|as|with|recursive|table|references|on)|\)) ?$/i

const words = (text: string): string[] => text.trim().split(/\s+/)

/** Keywords, types and PostgreSQL's own functions that applications call. Each may precede a parenthesis. */
const known = new Set([
  ...words(`
    all and any array as between bernoulli by case conflict cube distinct do else except exists filter for from
    group groups having ilike in index intersect is isnull join lateral like limit materialized not offset on only
    or order over partition range recursive returning rollup row rows select set sets similar some symmetric system
    then union update using values when where window with bigint bit bpchar char character dec decimal double float
    int integer interval numeric precision real text time timestamp timestamptz varbit varchar varying`),
  ...words(`
    cast coalesce collation extract greatest grouping least localtime localtimestamp normalize nullif overlay
    position row_number substring treat trim xmlelement xmlforest current_time current_timestamp`),
  ...words(`
    abs age array_agg array_append array_cat array_dims array_fill array_length array_lower array_ndims
    array_position array_positions array_prepend array_remove array_replace array_sample array_shuffle array_to_json
    array_to_string array_upper ascii avg bit_and bit_count bit_length bit_or bit_xor bool_and bool_or btrim
    cardinality cbrt ceil ceiling char_length character_length chr clock_timestamp concat concat_ws convert_from
    convert_to corr count cume_dist current_setting currval date date_add date_bin date_part date_subtract
    date_trunc decode degrees dense_rank div encode every exp factorial first_value floor format format_type gcd
    gen_random_uuid generate_series generate_subscripts get_bit get_byte hashtext hashtextextended host initcap
    int4range int8range isempty isfinite json_agg json_agg_strict json_array json_array_elements
    json_array_elements_text json_array_length json_arrayagg json_build_array json_build_object json_each
    json_each_text json_exists json_extract_path json_extract_path_text json_object json_object_agg json_object_keys
    json_objectagg json_populate_record json_populate_recordset json_query json_scalar json_serialize
    json_strip_nulls json_table json_to_record json_to_recordset json_typeof json_value jsonb_agg jsonb_agg_strict
    jsonb_array_elements jsonb_array_elements_text jsonb_array_length jsonb_build_array jsonb_build_object
    jsonb_each jsonb_each_text jsonb_extract_path jsonb_extract_path_text jsonb_insert jsonb_object jsonb_object_agg
    jsonb_object_keys jsonb_path_exists jsonb_path_match jsonb_path_query jsonb_path_query_array
    jsonb_path_query_first jsonb_populate_record jsonb_populate_recordset jsonb_pretty jsonb_set jsonb_set_lax
    jsonb_strip_nulls jsonb_to_record jsonb_to_recordset jsonb_typeof justify_days justify_hours justify_interval
    lag last_value lastval lcm lead left length ln log log10 lower lower_inc lower_inf lpad ltrim make_date
    make_interval make_time make_timestamp make_timestamptz max md5 min mod mode multirange nextval now nth_value
    ntile num_nonnulls num_nulls numrange octet_length parse_ident percent_rank percentile_cont percentile_disc
    pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_backend_pid pg_column_size pg_current_xact_id pg_notify
    pg_sleep pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared phraseto_tsquery pi plainto_tsquery power
    quote_ident quote_literal quote_nullable radians random range_agg range_merge rank regexp_count regexp_instr
    regexp_like regexp_match regexp_matches regexp_replace regexp_split_to_array regexp_split_to_table regexp_substr
    repeat replace reverse right round rpad rtrim scale set_config setval setweight sha224 sha256 sha384 sha512 sign
    sqrt starts_with statement_timestamp stddev stddev_pop stddev_samp string_agg string_to_array string_to_table
    strpos substr sum textcat timeofday to_char to_date to_hex to_json to_jsonb to_number to_timestamp to_tsquery
    to_tsvector transaction_timestamp translate trim_array trim_scale trunc ts_headline ts_rank ts_rank_cd tsrange
    tstzrange daterange txid_current unnest upper upper_inc upper_inf uuidv4 uuidv7 var_pop var_samp variance
    websearch_to_tsquery width_bucket`)
])

/**
 * Whether a statement calls a function that is not known to be PostgreSQL's own. Such a function may do anything, and
 * when the statement is parsed again, another function of the same name may fit its arguments better. A name that is
 * missing from the list only prevents preparing.
 *
 * @param statement one that statementsOf() returned
 */
export function callsOthers (statement: string): boolean {
  return otherCalls(statement).next().done !== true
}

/** The names of those functions, in lower case; empty for a quoted name that is not a plain word. */
export function * otherCalls (statement: string): Generator<string, void> {
  for (const { 1: schema, 2: name, index } of statement.matchAll(call)) {
    const word = plain(name!)
    if (schema === undefined ? known.has(word) : plain(schema) === 'pg_catalog') continue
    if (!named.test(statement.slice(0, index))) yield word
  }
}

function plain (name: string): string {
  return name.replaceAll('"', '').toLowerCase()
}
