package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// openDevice makes a TUN device in a network namespace.
func openDevice(namespace, name string) (*os.File, error) {
	type result struct {
		device *os.File
		err    error
	}
	done := make(chan result)
	go func() {
		// The thread is in the other namespace from now on: it ends with this goroutine, which never unlocks it.
		runtime.LockOSThread()
		device, err := openDeviceHere(filepath.Join("/run/netns", namespace), name)
		done <- result{device, err}
	}()
	r := <-done
	return r.device, r.err
}

func openDeviceHere(namespace, name string) (*os.File, error) {
	entry, err := unix.Open(namespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", namespace, err)
	}
	defer unix.Close(entry)
	if err := unix.Setns(entry, unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter %s: %w", namespace, err)
	}
	device, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	// IP packets as they are, without a header of the device's own.
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(device, unix.TUNSETIFF, request); err != nil {
		_ = unix.Close(device)
		return nil, fmt.Errorf("device %s: %w", name, err)
	}
	// So that Go waits for it without a thread.
	if err := unix.SetNonblock(device, true); err != nil {
		_ = unix.Close(device)
		return nil, err
	}
	return os.NewFile(uintptr(device), name), nil
}
