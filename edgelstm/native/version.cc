// The native library of edgelstm. It answers which version it was built from, so that
// Python can refuse a library that does not belong to it.

extern "C" __attribute__((visibility("default"))) const char* edgelstm_native_version() {
  return EDGELSTM_VERSION;
}
