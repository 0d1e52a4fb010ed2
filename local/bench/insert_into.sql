-- The statement that inserts into a variant, from the table of parameters.
CREATE FUNCTION insert_into(variant text) RETURNS text LANGUAGE sql AS $$
    SELECT format('INSERT INTO %I (%s) SELECT %s FROM unnest(%s) AS w (%s)', variant,
                  string_agg(name, ', '),
                  string_agg(CASE name WHEN 'risk_reasons' THEN 'string_to_array(w.risk_reasons, E''\x1f'')'
                             ELSE format('w.%I::%s', name, format_type(atttypid, atttypmod)) END, ', '),
                  string_agg(format('$%s::%s[]', number, type), ', '), string_agg(name, ', '))
    FROM pg_attribute JOIN parameters ON name = attname WHERE attrelid = variant::regclass AND NOT attisdropped
$$;
