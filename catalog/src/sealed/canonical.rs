//! CBOR in its one deterministic form.

use minicbor::{Decode, Encode};

/// Encodes `value`. The derived encoders write shortest integers and definite lengths only.
pub(super) fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect("encoding into memory does not fail")
}

/// Decodes a value that is encoded as [`encode`] would, and as nothing else: what this version does
/// not know, or knows under another form, is refused instead of passed over.
pub(super) fn decode<'b, T: Encode<()> + Decode<'b, ()>>(bytes: &'b [u8]) -> Option<T> {
    let value = minicbor::decode(bytes).ok()?;
    (encode(&value) == bytes).then_some(value)
}

/// Uuids as byte strings.
pub(super) mod uuid_bytes {
    use minicbor::decode::Error as DecodeError;
    use minicbor::encode::{Error as EncodeError, Write};
    use minicbor::{Decoder, Encoder};
    use uuid::Uuid;

    pub(in super::super) fn encode<C, W: Write>(
        uuid: &Uuid,
        encoder: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        encoder.bytes(uuid.as_bytes())?.ok()
    }

    pub(in super::super) fn decode<C>(
        decoder: &mut Decoder<'_>,
        _: &mut C,
    ) -> Result<Uuid, DecodeError> {
        Uuid::from_slice(decoder.bytes()?).map_err(|_| DecodeError::message("not a uuid"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_form_is_read() {
        assert_eq!(decode::<u32>(&[0x07]), Some(7));
        assert_eq!(decode::<u32>(&[0x18, 0x07]), None, "not the shortest form");
        assert_eq!(decode::<u32>(&[0x07, 0x00]), None, "something follows");
        assert_eq!(decode::<Vec<u32>>(&[0x9F, 0x07, 0xFF]), None, "indefinite length");
        assert_eq!(decode::<u32>(&[]), None);
    }
}
