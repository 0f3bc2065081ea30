package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/aws"
	awsantispam "github.com/transparency-dev/tessera/storage/aws/antispam"
	"github.com/transparency-dev/tessera/storage/gcp"
	gcpantispam "github.com/transparency-dev/tessera/storage/gcp/antispam"
	tesseramysql "github.com/transparency-dev/tessera/storage/mysql"
	"github.com/transparency-dev/tessera/storage/posix"
	posixantispam "github.com/transparency-dev/tessera/storage/posix/antispam"

	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/loopback"
	"github.com/hallmark-dev/hallmark/internal/translog"
)

// opened is a storage that was opened: Tessera's driver and the index of duplicates,
// which Tessera calls antispam.
type opened struct {
	name     string
	driver   tessera.Driver
	antispam tessera.Antispam
	// source reads the storage before an appender is there; nil where only the
	// appender can.
	source translog.Source
	// repair puts right what a migration writes; nil where nothing needs it.
	repair func(context.Context) error
	// sizeless says that what a migration is read by does not know its size.
	sizeless bool
	close    func() error
}

func openStorage(ctx context.Context, c *StorageConfig) (*opened, error) {
	var o *opened
	var err error
	switch c.Driver {
	case "posix":
		o, err = openPOSIX(ctx, c)
	case "mysql":
		o, err = openMySQL(ctx, c)
	case "aws":
		o, err = openAWS(ctx, c)
	case "gcp":
		o, err = openGCP(ctx, c)
	}
	if err != nil {
		return nil, fmt.Errorf("%s storage: %w", c.Driver, err)
	}
	if o.close == nil {
		o.close = func() error { return nil }
	}
	return o, nil
}

// maxBehind is how many entries the index of duplicates, which follows the tree once a
// second, may lack before no more are taken. The newest ones are known from memory, where
// there is room for four times as many.
const maxBehind = tessera.DefaultAntispamInMemorySize / 4

const (
	// duplicatesDir is below posix' folder, where no path of a log lies.
	duplicatesDir = ".duplicates"
	writerLock    = ".state/writer.lock"
)

func openPOSIX(ctx context.Context, c *StorageConfig) (_ *opened, err error) {
	state := filepath.Dir(filepath.Join(c.Path, writerLock))
	if err := durable.MkdirAll(state, 0o755); err != nil {
		return nil, err
	}
	lock, err := lockWriter(c.Path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = lock.Close()
		}
	}()
	driver, err := posix.New(ctx, posix.Config{Path: c.Path})
	if err != nil {
		return nil, err
	}
	if err := removeUnbegun(filepath.Join(c.Path, duplicatesDir)); err != nil {
		return nil, err
	}
	antispam, err := posixantispam.NewAntispam(ctx, filepath.Join(c.Path, duplicatesDir), posixantispam.AntispamOpts{PushbackThreshold: maxBehind})
	if err != nil {
		return nil, err
	}
	return &opened{name: c.Path, driver: driver, antispam: antispam, source: translog.DirSource(c.Path), close: lock.Close}, nil
}

// removeUnbegun removes what an end in the wrong moment leaves of the index of duplicates: a
// memtable (*.mem) that was made and has no byte yet. Badger makes such a file anew where
// it should read it, and then refuses to start until somebody deletes it.
func removeUnbegun(dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	if err != nil {
		return err
	}
	for _, name := range names {
		info, err := os.Lstat(name)
		if err != nil || !info.Mode().IsRegular() || info.Size() > 0 {
			continue
		}
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	return nil
}

var errInUse = errors.New("in use by another hallmark-log: stop that one first")

// lockWriter makes this process the one writer of a folder: Tessera's own locks keep two
// from forking the tree, but the index of duplicates has room for one.
func lockWriter(dir string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(dir, writerLock), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s is %w", dir, errInUse)
		}
		return nil, fmt.Errorf("locking %s: %w", lock.Name(), err)
	}
	return lock, nil
}

func openMySQL(ctx context.Context, c *StorageConfig) (_ *opened, err error) {
	dsn, err := readDSN(c.DSNFile)
	if err != nil {
		return nil, err
	}
	connector, err := mysql.NewConnector(dsn)
	if err != nil {
		return nil, errors.New("the data source name cannot be used")
	}
	db := sql.OpenDB(connector)
	defer func() {
		if err != nil {
			_ = db.Close()
		}
	}()
	// A publication holds one connection and reads through others.
	db.SetMaxOpenConns(32)
	db.SetMaxIdleConns(32)
	db.SetConnMaxLifetime(3 * time.Minute)
	if err := prepareMySQL(ctx, db); err != nil {
		return nil, fmt.Errorf("%s: %w", dsn.DBName, err)
	}
	driver, err := tesseramysql.New(ctx, db)
	if err != nil {
		return nil, err
	}
	// The index of the AWS driver is one of MySQL; its tables are beside the log's.
	antispam, err := awsantispam.NewAntispam(ctx, dsn.FormatDSN(), awsantispam.AntispamOpts{PushbackThreshold: maxBehind, MaxOpenConns: 32, MaxIdleConns: 32})
	if err != nil {
		return nil, err
	}
	name := "database " + dsn.DBName
	return &opened{
		name: name, driver: driver, antispam: antispam, source: newStorage(name, driver), close: db.Close,
		// Tessera's migration (1.0.4) writes full bundles with a size of 0, with which its
		// own reader finds none of them.
		repair: func(ctx context.Context) error {
			_, err := db.ExecContext(ctx, "UPDATE TiledLeaves SET size = 256 WHERE size = 0")
			return err
		},
	}, nil
}

// mysqlTables are the tables of Tessera's MySQL driver, version 1 of its schema.
var mysqlTables = []string{
	"CREATE TABLE IF NOT EXISTS Tessera (id TINYINT UNSIGNED PRIMARY KEY, compatibilityVersion BIGINT UNSIGNED NOT NULL) ENGINE=InnoDB",
	"INSERT IGNORE INTO Tessera (id, compatibilityVersion) VALUES (0, 1)",
	"CREATE TABLE IF NOT EXISTS Checkpoint (id TINYINT UNSIGNED PRIMARY KEY, note MEDIUMBLOB NOT NULL, published_at BIGINT NOT NULL) ENGINE=InnoDB",
	"CREATE TABLE IF NOT EXISTS TreeState (id TINYINT UNSIGNED PRIMARY KEY, size BIGINT UNSIGNED NOT NULL, root TINYBLOB NOT NULL) ENGINE=InnoDB",
	"CREATE TABLE IF NOT EXISTS Subtree (level TINYINT UNSIGNED, `index` BIGINT UNSIGNED, nodes MEDIUMBLOB NOT NULL, PRIMARY KEY (level, `index`)) ENGINE=InnoDB",
	"CREATE TABLE IF NOT EXISTS TiledLeaves (tile_index BIGINT UNSIGNED PRIMARY KEY, size SMALLINT UNSIGNED NOT NULL, data LONGBLOB NOT NULL) ENGINE=InnoDB",
}

// prepareMySQL makes the tables, and refuses a server that acknowledges what it has
// not written to disk.
func prepareMySQL(ctx context.Context, db *sql.DB) error {
	var flush string
	if err := db.QueryRowContext(ctx, "SELECT @@innodb_flush_log_at_trx_commit").Scan(&flush); err != nil {
		return err
	}
	if flush != "1" {
		return fmt.Errorf("the server has innodb_flush_log_at_trx_commit=%s and may lose what it acknowledged: set it to 1", flush)
	}
	for _, statement := range mysqlTables {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("making the tables: %w", err)
		}
	}
	return nil
}

// Parameters of our own in a data source name, each a file beside it in PEM: the CAs of the
// server, and the certificate and key by which it knows us.
const (
	caParameter   = "ca"
	certParameter = "cert"
	keyParameter  = "key"
)

// readDSN reads a data source name and refuses one that would send a password, or
// entries, over a network in the clear. Its errors never show it.
func readDSN(path string) (*mysql.Config, error) {
	data, err := readLimited(path, maxSecretFile)
	if err != nil {
		return nil, err
	}
	return parseDSN(path, strings.TrimSpace(string(data)))
}

func parseDSN(path, text string) (*mysql.Config, error) {
	c, err := mysql.ParseDSN(text)
	if err != nil || c.DBName == "" {
		return nil, fmt.Errorf("%s does not hold a data source name: want user:password@tcp(host:3306)/database?tls=true", path)
	}
	var files [3]string
	given := false
	for i, name := range []string{caParameter, certParameter, keyParameter} {
		value, there := c.Params[name]
		delete(c.Params, name)
		if there && value == "" {
			return nil, fmt.Errorf("%s: %s names no file", path, name)
		}
		files[i], given = below(filepath.Dir(path), value), given || there
	}
	if given {
		if c.TLSConfig, err = registerTLS(files[0], files[1], files[2]); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if c, err = mysql.ParseDSN(c.FormatDSN()); err != nil {
			return nil, fmt.Errorf("%s: the data source name cannot be used with its certificates", path)
		}
	}
	host, _, herr := net.SplitHostPort(c.Addr)
	local := c.Net == "unix" || herr == nil && loopback.Host(host)
	verified := c.TLSConfig != "" && c.TLSConfig != "false" && c.TLSConfig != "skip-verify" && c.TLSConfig != "preferred" && !c.AllowFallbackToPlaintext
	switch {
	case !local && c.AllowFallbackToPlaintext: // whoever is in between says that there is no TLS
		return nil, fmt.Errorf("%s: the database is on another machine and its connection may fall back to plain text: take allowFallbackToPlaintext out", path)
	case !local && !verified:
		return nil, fmt.Errorf("%s: the database is on another machine and its connection is not verified: add tls=true, or ca=FILE for a CA of your own", path)
	case !verified && c.AllowCleartextPasswords:
		return nil, fmt.Errorf("%s: the password may be sent in the clear over a connection that is not verified: take allowCleartextPasswords out, or add tls=true", path)
	case c.AllowAllFiles:
		return nil, fmt.Errorf("%s: with allowAllFiles the database could read this machine's files, the log's key among them: take it out", path)
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.ReadTimeout == 0 {
		c.ReadTimeout = 20 * time.Second
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = 20 * time.Second
	}
	return c, nil
}

// registerTLS makes the TLS that the driver knows by name: the server is believed by the
// CAs in a file, "" for the system's, and knows us by the certificate and key in two, "" for
// neither.
func registerTLS(ca, cert, key string) (name string, err error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		data, err := readLimited(ca, 1<<20)
		if err != nil {
			return "", err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(data) {
			return "", fmt.Errorf("%s has no certificate", ca)
		}
	}
	if (cert == "") != (key == "") {
		return "", errors.New("cert and key go together: a client's certificate and its key")
	}
	if cert != "" {
		chain, err := readLimited(cert, 1<<20)
		if err != nil {
			return "", err
		}
		private, err := readLimited(key, maxSecretFile)
		if err != nil {
			return "", err
		}
		pair, err := tls.X509KeyPair(chain, private)
		if err != nil {
			return "", fmt.Errorf("%s and %s are not a certificate and its key in PEM", cert, key)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	const registered = "hallmark-log"
	return registered, mysql.RegisterTLSConfig(registered, config)
}

func openAWS(ctx context.Context, c *StorageConfig) (*opened, error) {
	dsn, err := readDSN(c.DSNFile)
	if err != nil {
		return nil, err
	}
	// Region and credentials are those of the SDK: environment, profile or the machine's role.
	driver, err := aws.New(ctx, aws.Config{Bucket: c.Bucket, BucketPrefix: c.Prefix, DSN: dsn.FormatDSN(), MaxOpenConns: 64, MaxIdleConns: 64})
	if err != nil {
		return nil, err
	}
	antispam, err := awsantispam.NewAntispam(ctx, dsn.FormatDSN(), awsantispam.AntispamOpts{PushbackThreshold: maxBehind, MaxOpenConns: 32, MaxIdleConns: 32})
	if err != nil {
		return nil, err
	}
	connector, err := mysql.NewConnector(dsn)
	if err != nil {
		return nil, errors.New("the data source name cannot be used")
	}
	db := sql.OpenDB(connector)
	return &opened{
		name: "s3://" + c.Bucket + "/" + c.Prefix, driver: driver, antispam: antispam, close: db.Close,
		// What Tessera (1.0.4) migrates with ends the program when it is asked for its size,
		sizeless: true,
		// and leaves the number of the next entry at 0, with which no entry is ever taken.
		repair: func(ctx context.Context) error {
			_, err := db.ExecContext(ctx, "UPDATE SeqCoord s JOIN IntCoord i ON i.id = s.id SET s.next = i.seq WHERE s.next < i.seq")
			return err
		},
	}, nil
}

func openGCP(ctx context.Context, c *StorageConfig) (*opened, error) {
	driver, err := gcp.New(ctx, gcp.Config{Bucket: c.Bucket, BucketPrefix: c.Prefix, Spanner: c.Spanner})
	if err != nil {
		return nil, err
	}
	// The index is a database of its own beside the log's, as Tessera has it.
	antispam, err := gcpantispam.NewAntispam(ctx, c.Spanner+"-antispam", gcpantispam.AntispamOpts{PushbackThreshold: maxBehind})
	if err != nil {
		return nil, err
	}
	return &opened{name: "gs://" + c.Bucket + "/" + c.Prefix, driver: driver, antispam: antispam}, nil
}
