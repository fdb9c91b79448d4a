SEC(".maps") int m;
SEC("kprobe/take_request")
int a(void);
SEC("kprobe/serve_request")
int b(void);
char L[] SEC("license") = "x";
