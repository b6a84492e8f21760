/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ACCEL_SHA256_H
#define ACCEL_SHA256_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* SHA-256 (NIST FIPS 180-4, 2015, section 6.2) of bytes that come in parts. */
struct accel_sha256 {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[64];
};

void accel_sha256_begin(struct accel_sha256 *sha);
void accel_sha256_add(struct accel_sha256 *sha, const uint8_t *data, size_t bytes);
void accel_sha256_end(struct accel_sha256 *sha, uint8_t digest[32]);

#ifdef __cplusplus
}
#endif

#endif
