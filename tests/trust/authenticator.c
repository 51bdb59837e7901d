/* A security key in software, for the real ssh-keygen (SSH_SK_PROVIDER; the interface is described in OpenSSH's PROTOCOL.u2f).
 *
 * The key handle is the private key itself. The flags it attests are those that were asked for, or the number in SOFT_SK_FLAGS.
 * Build: cc -shared -fPIC -o authenticator.so authenticator.c -lcrypto
 */
#include <openssl/bn.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { API_VERSION = 0x000a0000, ECDSA = 0, ED25519 = 1, GENERAL_FAILURE = -1 };

struct option;

struct enrolled {
    uint8_t flags;
    uint8_t *public_key;
    size_t public_key_len;
    uint8_t *key_handle;
    size_t key_handle_len;
    uint8_t *signature;
    size_t signature_len;
    uint8_t *attestation;
    size_t attestation_len;
    uint8_t *authdata;
    size_t authdata_len;
};

struct signed_ {
    uint8_t flags;
    uint32_t counter;
    uint8_t *r;
    size_t r_len;
    uint8_t *s;
    size_t s_len;
};

uint32_t sk_api_version(void) { return API_VERSION; }

int sk_load_resident_keys(const char *pin, struct option **options, void ***keys, size_t *count) {
    *keys = NULL;
    *count = 0;
    return 0;
}

static EVP_PKEY *new_key(uint32_t alg) {
    return alg == ED25519 ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519") : EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
}

int sk_enroll(uint32_t alg, const uint8_t *challenge, size_t challenge_len, const char *application, uint8_t flags, const char *pin,
              struct option **options, struct enrolled **response) {
    EVP_PKEY *key = new_key(alg);
    struct enrolled *made = calloc(1, sizeof(*made));
    uint8_t *point = NULL;
    if (key == NULL || made == NULL) return GENERAL_FAILURE;
    made->flags = flags;
    made->key_handle_len = (size_t)i2d_PrivateKey(key, &made->key_handle);
    if (alg == ED25519) {
        made->public_key_len = 32;
        made->public_key = malloc(32);
        EVP_PKEY_get_raw_public_key(key, made->public_key, &made->public_key_len);
    } else {
        made->public_key_len = EVP_PKEY_get1_encoded_public_key(key, &point);
        made->public_key = malloc(made->public_key_len);
        memcpy(made->public_key, point, made->public_key_len);
        OPENSSL_free(point);
    }
    made->signature = calloc(1, 1);
    made->signature_len = 1;
    EVP_PKEY_free(key);
    *response = made;
    return 0;
}

static int sign_ecdsa(struct signed_ *made, const uint8_t *der, size_t length) {
    ECDSA_SIG *pair = d2i_ECDSA_SIG(NULL, &der, (long)length);
    if (pair == NULL) return GENERAL_FAILURE;
    made->r_len = made->s_len = 32;
    made->r = calloc(1, 32);
    made->s = calloc(1, 32);
    BN_bn2binpad(ECDSA_SIG_get0_r(pair), made->r, 32);
    BN_bn2binpad(ECDSA_SIG_get0_s(pair), made->s, 32);
    ECDSA_SIG_free(pair);
    return 0;
}

int sk_sign(uint32_t alg, const uint8_t *data, size_t data_len, const char *application, const uint8_t *handle, size_t handle_len,
            uint8_t flags, const char *pin, struct option **options, struct signed_ **response) {
    EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &handle, (long)handle_len);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    struct signed_ *made = calloc(1, sizeof(*made));
    const char *said = getenv("SOFT_SK_FLAGS");
    uint8_t message[32 + 1 + 4 + 32], out[256];
    size_t length = sizeof(out);
    if (key == NULL || context == NULL || made == NULL) return GENERAL_FAILURE;
    made->flags = said ? (uint8_t)atoi(said) : flags;
    made->counter = 7;
    SHA256((const uint8_t *)application, strlen(application), message);
    message[32] = made->flags;
    memcpy(message + 33, "\0\0\0\7", 4);
    SHA256(data, data_len, message + 37);
    if (EVP_DigestSignInit(context, NULL, alg == ED25519 ? NULL : EVP_sha256(), NULL, key) != 1 ||
        EVP_DigestSign(context, out, &length, message, sizeof(message)) != 1)
        return GENERAL_FAILURE;
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(key);
    *response = made;
    if (alg != ED25519) return sign_ecdsa(made, out, length);
    made->r = malloc(length);
    memcpy(made->r, out, length);
    made->r_len = length;
    return 0;
}
