fn main() {
    napi_build::setup();
    println!("cargo:rerun-if-env-changed=SLUICE_NATIVE_SOURCES");
}
