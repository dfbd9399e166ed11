package criu

import (
	"encoding/binary"
	"os"
	"path/filepath"
)

// DumpStats are what criu says of a dump. Times are in microseconds.
type DumpStats struct {
	FreezingTime uint64 `json:"freezing_time"`
	FrozenTime   uint64 `json:"frozen_time"`
	MemdumpTime  uint64 `json:"memdump_time"`
	MemwriteTime uint64 `json:"memwrite_time"`
	PagesScanned uint64 `json:"pages_scanned"`
	PagesWritten uint64 `json:"pages_written"`
}

// RestoreStats are what criu says of a restore. Times are in microseconds.
type RestoreStats struct {
	ForkingTime   uint64 `json:"forking_time"`
	RestoreTime   uint64 `json:"restore_time"`
	PagesRestored uint64 `json:"pages_restored"`
}

// Names of criu's statistics in a work directory.
const (
	DumpStatsFile    = "stats-dump"
	RestoreStatsFile = "stats-restore"
)

// ReadDumpStats reads the statistics of a dump; zero where there are none.
func ReadDumpStats(dir string) (s DumpStats) {
	readStats(filepath.Join(dir, DumpStatsFile), 1, map[int]*uint64{1: &s.FreezingTime, 2: &s.FrozenTime, 3: &s.MemdumpTime,
		4: &s.MemwriteTime, 5: &s.PagesScanned, 7: &s.PagesWritten})
	return s
}

// ReadRestoreStats reads the statistics of a restore; zero where there are none.
func ReadRestoreStats(dir string) (s RestoreStats) {
	readStats(filepath.Join(dir, RestoreStatsFile), 2, map[int]*uint64{3: &s.ForkingTime, 4: &s.RestoreTime, 5: &s.PagesRestored})
	return s
}

// readStats reads an image of one message (stats_entry), of which part is a field.
func readStats(file string, part int, into map[int]*uint64) {
	data, err := os.ReadFile(file)
	if err != nil || len(data) < 12 {
		return
	}
	size := binary.LittleEndian.Uint32(data[8:])
	if uint64(size) > uint64(len(data)-12) {
		return
	}
	message(data[12 : 12+size]).fields(func(field int, _ uint64, b []byte) {
		if field != part {
			return
		}
		message(b).fields(func(field int, v uint64, _ []byte) {
			if p := into[field]; p != nil {
				*p = v
			}
		})
	})
}
