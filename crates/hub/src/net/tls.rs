//! HTTPS without a C compiler: rustls over Graviola.

use crate::Error;
use std::path::Path;
use std::sync::Arc;
use ureq::tls::{PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

/// How HTTPS is spoken: Mozilla's root certificates, or those of a file.
pub(crate) fn config(certificates: Option<&Path>) -> Result<TlsConfig, Error> {
    let roots = match certificates {
        None => RootCerts::WebPki,
        Some(path) => {
            let pem = std::fs::read(path).map_err(Error::io("read", path))?;
            let certificates: Vec<_> = parse_pem(&pem)
                .filter_map(|item| match item {
                    Ok(PemItem::Certificate(certificate)) => Some(certificate),
                    _ => None,
                })
                .collect();
            if certificates.is_empty() {
                let why = format!("{} holds no certificate", path.display());
                return Err(Error::Setting { setting: "SSL_CERT_FILE".into(), why });
            }
            RootCerts::new_with_certs(&certificates)
        }
    };
    let builder = TlsConfig::builder().provider(TlsProvider::Rustls).root_certs(roots);
    Ok(builder.unversioned_rustls_crypto_provider(Arc::new(rustls_graviola::default_provider())).build())
}

/// Whether TLS can be spoken on this CPU: Graviola has no way without these instructions, and would end the program.
///
/// # Errors
/// When this CPU lacks one of them.
pub fn check_cpu() -> Result<(), Error> {
    #[cfg(target_arch = "x86_64")]
    let needs = {
        use std::arch::is_x86_feature_detected as has;
        [
            ("AES", has!("aes")),
            ("PCLMULQDQ", has!("pclmulqdq")),
            ("BMI1", has!("bmi1")),
            ("BMI2", has!("bmi2")),
            ("ADX", has!("adx")),
            ("AVX2", has!("avx2")),
        ]
    };
    #[cfg(target_arch = "aarch64")]
    let needs = {
        use std::arch::is_aarch64_feature_detected as has;
        [("AES", has!("aes")), ("SHA2", has!("sha2")), ("PMULL", has!("pmull")), ("NEON", has!("neon"))]
    };
    let lacks: Vec<&str> = needs.iter().filter(|(_, there)| !there).map(|(name, _)| *name).collect();
    match lacks.is_empty() {
        true => Ok(()),
        false => Err(Error::Tls { lacks: lacks.join(", ") }),
    }
}
