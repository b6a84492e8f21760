/* SPDX-License-Identifier: Apache-2.0 */
/* Looking things up in the header and the host graph of a program file: JSON (RFC 8259), which is read in place. */
#ifndef ACCEL_JSON_H
#define ACCEL_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A value and what follows it, up to `end`; `at` is null if there is none. */
struct accel_json {
    const uint8_t *at, *end;
};

/* The value of a member of an object. */
struct accel_json accel_json_member(struct accel_json object, const char *key);

/* Element `index` of an array. */
struct accel_json accel_json_element(struct accel_json array, uint32_t index);

/* A number without sign, fraction and exponent, at most 2^63. */
bool accel_json_number(struct accel_json value, uint64_t *number);

/* A number of 32 bits. */
bool accel_json_word(struct accel_json value, uint32_t *number);

/* Whether a value begins with these characters; `"machine"` in quotes is the whole of a text. */
bool accel_json_is(struct accel_json value, const char *text);

/* Whether two texts are equal. */
bool accel_json_equal(struct accel_json a, struct accel_json b);

#ifdef __cplusplus
}
#endif

#endif
