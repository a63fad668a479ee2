//! What `sampan serve` refuses before it listens.

use crate::support::Folder;

#[test]
fn what_cannot_be_served_is_said_before_anything_listens() -> Result<(), String> {
    let folder = Folder::new();
    folder.write("cert.pem", "nothing");
    folder.write("key.pem", "nothing");
    for (flags, parts, hint) in [
        ("--tls-cert cert.pem --tls-key key.pem", &["cert.pem", "no certificate"][..], "--tls-key"),
        ("--otlp localhost:4318", &["localhost:4318"], "http://localhost:4318"),
        ("--host 0.0.0.0", &["no API key"], "--api-key-file"),
        ("--api-key-file cert.pem --tls-cert absent.pem --tls-key key.pem", &["absent.pem"], "--tls-cert"),
        ("./absent.gguf", &["absent.gguf"], ""),
    ] {
        folder.sampan(&format!("serve mini --port 0 --log off {flags}")).mistake(parts, hint)?;
    }
    let half = folder.sampan("serve mini --port 0 --tls-cert cert.pem");
    assert!(half.code != 0 && half.stderr.contains("--tls-key"), "{half:?}");
    Ok(())
}
