/* ProcessPrng, which Rust's programs for Windows take their random numbers from, for versions of Wine that lack it (before 8.18).
   It takes them from the older function that does the same. Only the gate uses this. */
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID data, ULONG length);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length) { return SystemFunction036(data, (ULONG)length); }
