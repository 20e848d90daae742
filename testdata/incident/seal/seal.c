/* @acme/seal: seals payment records and signs receipts for a partner.
 *
 * The fault of the incident on purpose: a 256-bit AES key and a partner's private key are constants of the module.
 * Both are made up for this image and open nothing.
 *
 * Node.js exports both Node-API and OpenSSL, so the few prototypes are declared here and no headers are needed.
 */

#include <stddef.h>
#include <stdint.h>

/* Node-API, https://nodejs.org/api/n-api.html */
typedef struct napi_env__ *napi_env;
typedef struct napi_value__ *napi_value;
typedef struct napi_callback_info__ *napi_callback_info;
typedef int napi_status;
typedef napi_value (*napi_callback)(napi_env, napi_callback_info);
extern napi_status napi_get_cb_info(napi_env, napi_callback_info, size_t *, napi_value *, napi_value *, void **);
extern napi_status napi_get_buffer_info(napi_env, napi_value, void **, size_t *);
extern napi_status napi_create_buffer_copy(napi_env, size_t, const void *, void **, napi_value *);
extern napi_status napi_create_buffer(napi_env, size_t, void **, napi_value *);
extern napi_status napi_create_function(napi_env, const char *, size_t, napi_callback, void *, napi_value *);
extern napi_status napi_set_named_property(napi_env, napi_value, const char *, napi_value);
extern napi_status napi_throw_error(napi_env, const char *, const char *);
#define NAPI_AUTO_LENGTH ((size_t)-1)

/* OpenSSL 3, https://docs.openssl.org/3.0/man3/ */
typedef struct evp_cipher_st EVP_CIPHER;
typedef struct evp_cipher_ctx_st EVP_CIPHER_CTX;
typedef struct evp_md_st EVP_MD;
typedef struct evp_md_ctx_st EVP_MD_CTX;
typedef struct evp_pkey_st EVP_PKEY;
typedef struct bio_st BIO;
extern EVP_CIPHER_CTX *EVP_CIPHER_CTX_new(void);
extern void EVP_CIPHER_CTX_free(EVP_CIPHER_CTX *);
extern int EVP_CIPHER_CTX_ctrl(EVP_CIPHER_CTX *, int, int, void *);
extern const EVP_CIPHER *EVP_aes_256_gcm(void);
extern int EVP_EncryptInit_ex(EVP_CIPHER_CTX *, const EVP_CIPHER *, void *, const unsigned char *, const unsigned char *);
extern int EVP_EncryptUpdate(EVP_CIPHER_CTX *, unsigned char *, int *, const unsigned char *, int);
extern int EVP_EncryptFinal_ex(EVP_CIPHER_CTX *, unsigned char *, int *);
extern int RAND_bytes(unsigned char *, int);
extern BIO *BIO_new_mem_buf(const void *, int);
extern int BIO_free(BIO *);
extern EVP_PKEY *PEM_read_bio_PrivateKey(BIO *, EVP_PKEY **, void *, void *);
extern void EVP_PKEY_free(EVP_PKEY *);
extern EVP_MD_CTX *EVP_MD_CTX_new(void);
extern void EVP_MD_CTX_free(EVP_MD_CTX *);
extern const EVP_MD *EVP_sha256(void);
extern int EVP_DigestSignInit(EVP_MD_CTX *, void **, const EVP_MD *, void *, EVP_PKEY *);
extern int EVP_DigestSign(EVP_MD_CTX *, unsigned char *, size_t *, const unsigned char *, size_t);
#define EVP_CTRL_GCM_GET_TAG 0x10

#define IV_LEN 12
#define TAG_LEN 16
#define MAX_RECORD (1 << 20)

static const unsigned char seal_key[32] = {
    0x63, 0xa3, 0xdc, 0x15, 0x0e, 0x9e, 0x59, 0x2d,
    0x2f, 0x2c, 0xf6, 0x0e, 0x53, 0xb7, 0xdc, 0x63,
    0x23, 0x8f, 0x8e, 0x9c, 0xb6, 0x3d, 0x9d, 0xba,
    0xe4, 0x39, 0x5e, 0x48, 0xf0, 0x83, 0xc3, 0x1f,
};

static const char partner_signing_key[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgaBy6JG9Uq4urf6wv\n"
    "ee+CysRCzWYfingREsH+TN12frGhRANCAATjZdolGA2t/sQLOXOvdlo0pEuKsY8N\n"
    "d7bSErFd8O91GRNV7ZbOp3WcaFSAzod9nTzNhAMvlCSTDE7WIEMVPNjQ\n"
    "-----END PRIVATE KEY-----\n";

/* The one argument of a call, which has to be a Buffer. */
static int buffer_argument(napi_env env, napi_callback_info info, unsigned char **data, size_t *len)
{
    napi_value argument;
    size_t count = 1;
    if (napi_get_cb_info(env, info, &count, &argument, NULL, NULL) != 0 || count < 1)
        return 0;
    return napi_get_buffer_info(env, argument, (void **)data, len) == 0 && *len <= MAX_RECORD;
}

static napi_value fail(napi_env env, const char *message)
{
    napi_throw_error(env, NULL, message);
    return NULL;
}

/* iv (12 bytes), ciphertext, tag (16 bytes) */
static int encrypt(const unsigned char *plain, int len, unsigned char *sealed)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    unsigned char *iv = sealed, *body = sealed + IV_LEN;
    int done = 0, rest = 0;
    int ok = ctx != NULL && RAND_bytes(iv, IV_LEN) == 1
        && EVP_EncryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, seal_key, iv) == 1
        && EVP_EncryptUpdate(ctx, body, &done, plain, len) == 1
        && EVP_EncryptFinal_ex(ctx, body + done, &rest) == 1
        && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG_LEN, body + len) == 1;
    EVP_CIPHER_CTX_free(ctx);
    return ok;
}

/* ECDSA with SHA-256 under the partner's key */
static int sign(const unsigned char *data, size_t len, unsigned char *signature, size_t *signature_len)
{
    BIO *pem = BIO_new_mem_buf(partner_signing_key, sizeof partner_signing_key - 1);
    EVP_PKEY *key = pem != NULL ? PEM_read_bio_PrivateKey(pem, NULL, NULL, NULL) : NULL;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int ok = key != NULL && ctx != NULL && EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) == 1
        && EVP_DigestSign(ctx, signature, signature_len, data, len) == 1;
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
    BIO_free(pem);
    return ok;
}

static napi_value seal(napi_env env, napi_callback_info info)
{
    unsigned char *plain = NULL, *sealed = NULL;
    size_t len = 0;
    napi_value result = NULL;
    if (!buffer_argument(env, info, &plain, &len))
        return fail(env, "seal takes a Buffer of at most 1 MiB");
    if (napi_create_buffer(env, IV_LEN + len + TAG_LEN, (void **)&sealed, &result) != 0)
        return fail(env, "out of memory");
    if (!encrypt(plain, (int)len, sealed))
        return fail(env, "sealing failed");
    return result;
}

static napi_value sign_receipt(napi_env env, napi_callback_info info)
{
    unsigned char *data = NULL, signature[128];
    size_t len = 0, signature_len = sizeof signature;
    napi_value result = NULL;
    if (!buffer_argument(env, info, &data, &len))
        return fail(env, "signReceipt takes a Buffer of at most 1 MiB");
    if (!sign(data, len, signature, &signature_len))
        return fail(env, "signing failed");
    if (napi_create_buffer_copy(env, signature_len, signature, NULL, &result) != 0)
        return fail(env, "out of memory");
    return result;
}

static void export_function(napi_env env, napi_value exports, const char *name, napi_callback function)
{
    napi_value value;
    if (napi_create_function(env, name, NAPI_AUTO_LENGTH, function, NULL, &value) == 0)
        napi_set_named_property(env, exports, name, value);
}

__attribute__((visibility("default"))) int32_t node_api_module_get_api_version_v1(void)
{
    return 8;
}

__attribute__((visibility("default"))) napi_value napi_register_module_v1(napi_env env, napi_value exports)
{
    export_function(env, exports, "seal", seal);
    export_function(env, exports, "signReceipt", sign_receipt);
    return exports;
}
