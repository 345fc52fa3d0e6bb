//! Generates the wire from its description, without a system's protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[cfg(feature = "wire")]
    {
        let description = protox::compile(["proto/millstream.proto"], ["proto"])?;
        tonic_prost_build::configure().compile_fds(description)?;
    }
    println!("cargo:rerun-if-changed=proto/millstream.proto");
    Ok(())
}
