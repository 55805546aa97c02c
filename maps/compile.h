// One resolved Service → ABI rows with symbolic slots. Pure.
#ifndef WAGGLE_MAPS_COMPILE_H_
#define WAGGLE_MAPS_COMPILE_H_

#include "maps/desired.h"
#include "maps/tables.h"

namespace waggle::maps {

// Names longer than a label (63 bytes) are cut; decoding has refused them before.
ServiceRows Compile(const ResolvedService& service);

}  // namespace waggle::maps

#endif
