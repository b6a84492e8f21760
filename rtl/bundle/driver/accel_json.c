/* SPDX-License-Identifier: Apache-2.0 */
#include "accel_json.h"

static const struct accel_json nothing = {NULL, NULL};

static bool begins(struct accel_json value, char character)
{
    return value.at && value.at < value.end && *value.at == (uint8_t)character;
}

/* The value itself: what may stand before it is left out. */
static struct accel_json skip(struct accel_json value)
{
    while (begins(value, ' ') || begins(value, '\n') || begins(value, '\r') || begins(value, '\t'))
        ++value.at;
    return value;
}

/* Behind the text that begins at `value`. */
static struct accel_json behind_text(struct accel_json value)
{
    for (++value.at; value.at < value.end && *value.at != '"'; ++value.at)
        if (*value.at == '\\' && value.at + 1 < value.end)
            ++value.at;
    if (value.at == value.end)
        return nothing;
    ++value.at;
    return value;
}

/* Behind the value: at the comma, colon or bracket that follows it. */
static struct accel_json behind(struct accel_json value)
{
    uint32_t depth = 0;

    while (value.at && value.at < value.end) {
        const uint8_t character = *value.at;

        if (depth == 0 && (character == ',' || character == ':' || character == ']' || character == '}'))
            return value;
        if (character == '"') {
            value = behind_text(value);
            continue;
        }
        if (character == '{' || character == '[')
            ++depth;
        else if (character == '}' || character == ']')
            --depth;
        ++value.at;
    }
    return nothing;
}

/* The element behind a comma, or none. */
static struct accel_json following(struct accel_json value)
{
    value = behind(value);
    if (!begins(value, ','))
        return nothing;
    ++value.at;
    return skip(value);
}

bool accel_json_is(struct accel_json value, const char *text)
{
    if (!value.at)
        return false;
    for (; *text; ++text, ++value.at)
        if (value.at == value.end || *value.at != (uint8_t)*text)
            return false;
    return true;
}

/* Whether a text is `key`. */
static bool is_key(struct accel_json text, const char *key)
{
    if (!begins(text, '"'))
        return false;
    ++text.at;
    while (*key && begins(text, *key))
        ++text.at, ++key;
    return !*key && begins(text, '"');
}

struct accel_json accel_json_member(struct accel_json object, const char *key)
{
    if (!begins(object, '{'))
        return nothing;
    ++object.at;
    for (object = skip(object); begins(object, '"'); object = following(object)) {
        const bool found = is_key(object, key);

        object = behind(object);
        if (!begins(object, ':'))
            return nothing;
        ++object.at;
        if (found)
            return skip(object);
    }
    return nothing;
}

struct accel_json accel_json_element(struct accel_json array, uint32_t index)
{
    if (!begins(array, '['))
        return nothing;
    ++array.at;
    array = skip(array);
    if (begins(array, ']'))
        return nothing;
    for (; index; --index)
        array = following(array);
    return array;
}

bool accel_json_number(struct accel_json value, uint64_t *number)
{
    const uint64_t limit = (uint64_t)1 << 63;
    const uint8_t *first = value.at;
    bool digits;

    for (*number = 0; value.at && value.at < value.end && *value.at >= '0' && *value.at <= '9'; ++value.at) {
        if (*number > (limit - 9) / 10)
            return false;
        *number = 10 * *number + (uint64_t)(*value.at - '0');
    }
    digits = value.at != first;
    value = skip(value);
    return digits && (begins(value, ',') || begins(value, '}') || begins(value, ']'));
}

bool accel_json_word(struct accel_json value, uint32_t *number)
{
    uint64_t wide;

    if (!accel_json_number(value, &wide) || wide > UINT32_MAX)
        return false;
    *number = (uint32_t)wide;
    return true;
}

bool accel_json_equal(struct accel_json a, struct accel_json b)
{
    const struct accel_json end = begins(a, '"') ? behind_text(a) : nothing;
    const struct accel_json other = begins(b, '"') ? behind_text(b) : nothing;

    if (!end.at || !other.at || other.at - b.at != end.at - a.at)
        return false;
    for (; a.at != end.at; ++a.at, ++b.at)
        if (*a.at != *b.at)
            return false;
    return true;
}
