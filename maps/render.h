// Resolved Services as text: the one rendering that `waggle plan` (from objects) and
// `waggle service list` (from the kernel) share, so that the two can be compared byte
// for byte. Pure.
#ifndef WAGGLE_MAPS_RENDER_H_
#define WAGGLE_MAPS_RENDER_H_

#include <string>
#include <vector>

#include "maps/desired.h"

namespace waggle::maps {

// One array of rows, one row a line, sorted by their fields in order; ends in a newline.
std::string RenderServicesJson(const std::vector<ResolvedService>& services);
// As kubectl prints: NAMESPACE NAME PORT PROTOCOL ADDRESS … ; `wide` lists every backend.
std::string RenderServicesTable(const std::vector<ResolvedService>& services, bool wide);
// One row for each (Service port, family, backend).
std::string RenderBackendsJson(const std::vector<ResolvedService>& services);
std::string RenderBackendsTable(const std::vector<ResolvedService>& services, bool wide);

}  // namespace waggle::maps

#endif
