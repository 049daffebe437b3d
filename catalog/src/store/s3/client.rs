//! The way to the service: credentials, region, certificates and deadlines.
//!
//! Invariants: no request is without a deadline; nothing is repeated here but what
//! [`patient`] is asked for, since [`Retry`](super::super::Retry) stands outside.

use std::path::Path;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedHttpClient,
};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::config::S3Config;
use crate::{Error, Result};

/// A host that does not answer at all is given up after this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// One small request: short enough for a second attempt before `Retry` gives up.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(12);

/// One part: 8 MiB within this are 140 kB/s.
const PART_TIMEOUT: Duration = Duration::from_secs(60);

/// All attempts at a part together.
const PATIENCE: Duration = Duration::from_secs(150);

/// Attempts at sending a part, whose bytes only the upload still has.
const PART_ATTEMPTS: u32 = 4;

/// Variables that name the address of the service, as other programs of Amazon's read them.
const ADDRESS_VARIABLES: [&str; 2] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];

/// The region of a service that has an address of its own: most know no regions.
const REGION_OF_ADDRESS: &str = "us-east-1";

/// Makes a client for the service that `config` names. Only the lookup of a region may ask the
/// network, and only on a machine of Amazon's.
pub(super) async fn connect(config: &S3Config) -> Result<Client> {
    let has_address = config.endpoint.is_some()
        || ADDRESS_VARIABLES.iter().any(|name| std::env::var_os(name).is_some());
    let region = RegionProviderChain::first_try(config.region.clone().map(Region::new))
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new())
        .or_else(has_address.then(|| Region::from_static(REGION_OF_ADDRESS)))
        .or_else(ImdsRegionProvider::builder().build());
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(region)
        .timeout_config(deadlines(ATTEMPT_TIMEOUT));
    if let Some(path) = &config.ca_file {
        loader = loader.http_client(trusting(path)?);
    }
    if let Some(endpoint) = &config.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    let shared = loader.load().await;
    if shared.region().is_none() {
        let what = "no region for the bucket: set repository.region or AWS_REGION".to_owned();
        return Err(Error::Invalid { what });
    }
    // Without an address of its own the service is Amazon's, which knows buckets as hosts.
    let is_path_style = config.force_path_style.unwrap_or(shared.endpoint_url().is_some());
    let builder = Builder::from(&shared).force_path_style(is_path_style);
    Ok(Client::from_conf(builder.build()))
}

/// `client` as a store needs it: one attempt, within a deadline; no checksums of its own, since those
/// that it adds come in a form that older stores do not take.
pub(super) fn disciplined(client: &Client) -> Client {
    let builder = client
        .config()
        .to_builder()
        .retry_config(RetryConfig::disabled())
        .timeout_config(deadlines(ATTEMPT_TIMEOUT))
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    Client::from_conf(builder.build())
}

/// For requests that nobody outside can repeat: longer, and repeated by the client itself.
pub(super) fn patient() -> Builder {
    let attempts = RetryConfig::standard().with_max_attempts(PART_ATTEMPTS);
    let deadlines = deadlines(PART_TIMEOUT).to_builder().operation_timeout(PATIENCE).build();
    aws_sdk_s3::Config::builder().timeout_config(deadlines).retry_config(attempts)
}

fn deadlines(attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(attempt)
        .operation_attempt_timeout(attempt)
        .build()
}

/// A client that trusts the certificates in `path` besides those of the system.
fn trusting(path: &Path) -> Result<SharedHttpClient> {
    let what = |why: String| Error::Invalid {
        what: format!("repository.ca_file {}: {why}", path.display()),
    };
    let pem = std::fs::read(path).map_err(|error| what(error.to_string()))?;
    // The client would panic over a certificate that it cannot read.
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| what(error.to_string()))?;
        roots.add(certificate).map_err(|error| what(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(what("there is no certificate in it".to_owned()));
    }
    let trust = TrustStore::default().with_pem_certificate(pem);
    let context = TlsContext::builder().with_trust_store(trust).build();
    let context = context.map_err(|error| what(error.to_string()))?;
    Ok(aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(context)
        .build_https())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_told_and_no_panic() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        assert!(trusting(&path).unwrap_err().to_string().contains("ca.pem"));
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for text in ["", "rubbish", broken] {
            std::fs::write(&path, text).unwrap();
            assert!(trusting(&path).unwrap_err().to_string().contains("ca_file"), "{text:?}");
        }
    }
}
